//! When a certificate expires: of X.509 ([RFC 5280](https://www.rfc-editor.org/rfc/rfc5280#section-4.1)) no more than it
//! takes to find that. Who it is about, and whether it is sound, is for whoever checks it.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

/// Bytes in which a length is written at most.
const LENGTH_BYTES_MAX: usize = 4;

/// When the first certificate of a PEM file expires; nothing where that cannot be found.
pub(crate) fn expires(chain: &Path) -> Option<Timestamp> {
    let first = CertificateDer::pem_file_iter(chain).ok()?.next()?.ok()?;
    not_after(&first)
}

fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (signed, _) = element(certificate, SEQUENCE)?;
    let rest = element(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, _not_before, rest) = any(validity)?;
    let (tag, text, _) = any(rest)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let whole = match tag {
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let (year, month, day) = (whole.get(..4)?, whole.get(4..6)?, whole.get(6..8)?);
    let (hour, minute, second) = (whole.get(8..10)?, whole.get(10..12)?, whole.get(12..14)?);
    let written = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    written.parse().ok()
}

/// The content of the element with this tag that `bytes` begin with, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the first element, and what follows it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(*first & 0x7F))?;
        if digits.len() > LENGTH_BYTES_MAX {
            return None;
        }
        let add = |length: usize, digit: &u8| length << 8 | usize::from(*digit);
        (digits.iter().fold(0, add), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_however_it_is_written() {
        // From 2050 on the year has four digits.
        for year in [2031, 2051] {
            let names = vec!["proxy.example".to_owned()];
            let mut wanted = rcgen::CertificateParams::new(names).unwrap();
            wanted.not_after = rcgen::date_time_ymd(year, 2, 3);
            let key = rcgen::KeyPair::generate().unwrap();
            let made = wanted.self_signed(&key).unwrap();
            let told = not_after(made.der()).unwrap();
            assert_eq!(told.to_string(), format!("{year}-02-03T00:00:00Z"));
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), made.pem()).unwrap();
            assert_eq!(expires(file.path()), Some(told));
            for end in 0..made.der().len().min(200) {
                let _nothing_breaks = not_after(&made.der()[..end]);
            }
        }
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        for bytes in [
            &[][..],
            b"x",
            &[SEQUENCE, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
            &[SEQUENCE, 0x89],
        ] {
            assert_eq!(not_after(bytes), None);
        }
        assert_eq!(time(UTC_TIME, "99"), None);
        assert_eq!(time(GENERALIZED_TIME, "2031ö"), None);
        let last = time(UTC_TIME, "991231235959Z").unwrap();
        assert_eq!(last.to_string(), "1999-12-31T23:59:59Z");
    }
}
