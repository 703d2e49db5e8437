//! When a certificate expires. Who it is about, and whether it is sound, is for whoever checks it.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser;

/// When the first certificate of a PEM file expires; nothing where that cannot be found.
pub(crate) fn expires(chain: &Path) -> Option<Timestamp> {
    let first = CertificateDer::pem_file_iter(chain).ok()?.next()?.ok()?;
    not_after(&first)
}

fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    // What an extension says that cannot be read has nothing to do with it.
    let mut reader = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (_, read) = reader.parse(certificate).ok()?;
    Timestamp::from_second(read.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32) -> rcgen::Certificate {
        let names = vec!["proxy.example".to_owned()];
        let mut wanted = rcgen::CertificateParams::new(names).unwrap();
        wanted.not_after = rcgen::date_time_ymd(year, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        wanted.self_signed(&key).unwrap()
    }

    fn file_of(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn it_is_found_however_it_is_written() {
        // From 2050 on the year has four digits.
        for year in [2031, 2051] {
            let made = made(year);
            let told = not_after(made.der()).unwrap();
            assert_eq!(told.to_string(), format!("{year}-02-03T00:00:00Z"));
            let file = file_of(&made.pem());
            assert_eq!(expires(file.path()), Some(told));
            for end in 0..made.der().len() {
                assert_eq!(not_after(&made.der()[..end]), None, "{end} bytes of it");
            }
        }
    }

    #[test]
    fn of_many_in_a_file_it_is_the_first_ones() {
        let (own, authority) = (made(2031).pem(), made(2041).pem());
        let told = |text: &str| expires(file_of(text).path()).map(|at| at.to_string());
        let wanted = Some("2031-02-03T00:00:00Z".to_owned());
        assert_eq!(told(&format!("{own}{authority}")), wanted);
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let noted = format!("issued by hand\n{key}{own}\n{authority}");
        assert_eq!(told(&noted), wanted);
        assert_eq!(told(&key), None);
        assert_eq!(told("no PEM"), None);
        assert_eq!(expires(Path::new("/nowhere/proxy.pem")), None);
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        for bytes in [
            &[][..],
            b"x",
            &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0x30, 0x89],
        ] {
            assert_eq!(not_after(bytes), None);
        }
    }

    #[test]
    fn two_digits_are_of_this_century_up_to_49() {
        let der = made(2031).der().to_vec();
        let written = b"310203000000Z";
        let at = der.windows(13).position(|piece| piece == written).unwrap();
        let told = |other: &[u8; 13]| {
            let mut der = der.clone();
            der[at..at + 13].copy_from_slice(other);
            not_after(&der).map(|at| at.to_string())
        };
        assert_eq!(
            told(b"991231235959Z").as_deref(),
            Some("1999-12-31T23:59:59Z")
        );
        assert_eq!(
            told(b"490101000000Z").as_deref(),
            Some("2049-01-01T00:00:00Z")
        );
        for wrong in [b"31\xC3\xB603000000Z", b"311303000000Z", b"310203000000z"] {
            assert_eq!(told(wrong), None);
        }
    }
}
