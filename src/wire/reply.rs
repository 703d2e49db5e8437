//! OK, ERR and EOF packets: read leniently, written exactly.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_response_packets.html>

use super::answer::{Done, ERROR_TEXT_MAX, Failure};
use super::capability::Capabilities;
use super::packet::{Reader, Short, write_lenenc, write_lenenc_bytes, write_packet};
use super::status::Status;
use xxhash_rust::xxh3::xxh3_64;

/// First byte of an OK packet.
pub const OK: u8 = 0x00;
/// First byte of an EOF packet, and of the OK packet that stands for one with DEPRECATE_EOF.
pub const EOF: u8 = 0xFE;
/// First byte of an ERR packet.
pub const ERR: u8 = 0xFF;
/// First byte of a request for the client's file.
pub const LOCAL_INFILE: u8 = 0xFB;
/// Length of an EOF packet's payload.
pub const EOF_LEN: usize = 5;

/// All that an OK packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OkPacket<'a> {
    /// The numbers.
    pub done: Done,
    /// The info text, as on `Rows matched: 1  Changed: 1  Warnings: 0`.
    pub info: &'a [u8],
    /// Session state changes (SESSION_TRACK), each a type byte and a length-encoded string.
    pub session_state: &'a [u8],
}

/// Reads an OK packet's numbers, by whichever of its two first bytes it begins.
pub fn parse_ok(payload: &[u8], capabilities: Capabilities) -> Result<Done, Short> {
    parse_ok_packet(payload, capabilities).map(|ok| ok.done)
}

/// Reads a whole OK packet.
///
/// The info text is length-encoded from MySQL and runs to the end from vtgate; texts that a cap
/// cut off are taken as far as they go.
pub fn parse_ok_packet(payload: &[u8], capabilities: Capabilities) -> Result<OkPacket<'_>, Short> {
    let mut reader = Reader::new(payload);
    reader.u8()?;
    let affected_rows = reader.lenenc_int()?;
    let last_insert_id = reader.lenenc_int()?;
    let status = Status(reader.u16()?);
    let warnings = reader.u16()?;
    let tracked = capabilities.has(Capabilities::SESSION_TRACK);
    let info = info_text(&mut reader, tracked);
    let session_state = if tracked && status.has(Status::SESSION_STATE_CHANGED) {
        text_or_rest(&mut reader)
    } else {
        &[]
    };
    let done = Done {
        affected_rows,
        last_insert_id,
        status,
        warnings,
        info: if info.is_empty() { 0 } else { xxh3_64(info) },
    };
    Ok(OkPacket {
        done,
        info,
        session_state,
    })
}

fn info_text<'a>(reader: &mut Reader<'a>, tracked: bool) -> &'a [u8] {
    if tracked {
        return text_or_rest(reader);
    }
    let rest = reader.rest();
    match reader.lenenc_bytes() {
        Ok(Some(text)) if reader.is_empty() => text,
        _ => rest,
    }
}

fn text_or_rest<'a>(reader: &mut Reader<'a>) -> &'a [u8] {
    let mut cut = *reader;
    match reader.lenenc_bytes() {
        Ok(text) => text.unwrap_or(&[]),
        Err(Short) => match cut.lenenc() {
            Ok(_) => cut.rest(),
            Err(Short) => &[],
        },
    }
}

/// Reads an EOF packet as the OK that it stands for.
pub fn parse_eof(payload: &[u8]) -> Result<Done, Short> {
    let mut reader = Reader::new(payload);
    reader.u8()?;
    let warnings = reader.u16()?;
    let status = Status(reader.u16()?);
    Ok(Done {
        status,
        warnings,
        ..Done::default()
    })
}

/// Reads an ERR packet. Never fails: what the packet lacks stays empty, a missing SQLSTATE is
/// `HY000` (servers leave it out before the login).
#[must_use]
pub fn parse_err(payload: &[u8]) -> Failure {
    let mut reader = Reader::new(payload);
    let code = reader.u8().and_then(|_| reader.u16()).unwrap_or(0);
    let mut text = reader.rest();
    let mut sqlstate = *b"HY000";
    if let Some((b'#', rest)) = text.split_first()
        && let Some((state, rest)) = rest.split_first_chunk::<5>()
    {
        sqlstate = *state;
        text = rest;
    }
    let message = text.get(..ERROR_TEXT_MAX).unwrap_or(text).to_vec();
    Failure {
        code,
        sqlstate,
        message,
    }
}

/// Whether the payload is an ERR packet.
#[must_use]
pub fn is_err(payload: &[u8]) -> bool {
    payload.first() == Some(&ERR)
}

/// Whether the payload is an OK packet (of a command without rows).
#[must_use]
pub fn is_ok(payload: &[u8]) -> bool {
    payload.first() == Some(&OK)
}

/// Whether the payload is a classic EOF packet, not a row that begins with the same byte.
#[must_use]
pub fn is_eof(payload: &[u8]) -> bool {
    payload.first() == Some(&EOF) && payload.len() < 9
}

/// Appends an OK packet and returns the sequence number that follows. The info text is left out.
pub fn write_ok(out: &mut Vec<u8>, seq: u8, done: Done) -> u8 {
    let mut payload = vec![OK];
    write_lenenc(&mut payload, done.affected_rows);
    write_lenenc(&mut payload, done.last_insert_id);
    payload.extend_from_slice(&done.status.0.to_le_bytes());
    payload.extend_from_slice(&done.warnings.to_le_bytes());
    write_packet(out, seq, &payload)
}

/// Appends an OK packet with an info text, length-encoded as MySQL does it.
pub fn write_ok_info(out: &mut Vec<u8>, seq: u8, done: Done, info: &[u8]) -> u8 {
    let mut packet = Vec::new();
    write_ok(&mut packet, seq, done);
    let mut payload = packet.split_off(super::HEADER_LEN);
    write_lenenc_bytes(&mut payload, info);
    write_packet(out, seq, &payload)
}

/// Appends an EOF packet and returns the sequence number that follows.
pub fn write_eof(out: &mut Vec<u8>, seq: u8, status: Status, warnings: u16) -> u8 {
    let [w0, w1] = warnings.to_le_bytes();
    let [s0, s1] = status.0.to_le_bytes();
    write_packet(out, seq, &[EOF, w0, w1, s0, s1])
}

/// Appends an ERR packet and returns the sequence number that follows.
pub fn write_err(out: &mut Vec<u8>, seq: u8, code: u16, sqlstate: [u8; 5], message: &str) -> u8 {
    let mut payload = vec![ERR];
    payload.extend_from_slice(&code.to_le_bytes());
    payload.push(b'#');
    payload.extend_from_slice(&sqlstate);
    payload.extend_from_slice(message.as_bytes());
    write_packet(out, seq, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Capabilities = Capabilities::PROTOCOL_41;
    const TRACKED: Capabilities = PLAIN.with(Capabilities::SESSION_TRACK);

    #[test]
    fn the_info_text_reads_the_same_from_mysql_and_from_vtgate() {
        let numbers = [0, 2, 0xFC, 0x10, 0x27, 0x02, 0x00, 0x01, 0x00];
        let mysql = [&numbers[..], b"\x04info"].concat();
        let vtgate = [&numbers[..], b"info"].concat();
        let done = parse_ok(&mysql, PLAIN).unwrap();
        assert_eq!(done.affected_rows, 2);
        assert_eq!(done.last_insert_id, 10_000);
        assert_eq!(done.status, Status(2));
        assert_eq!(done.warnings, 1);
        assert_ne!(done.info, 0);
        assert_eq!(parse_ok(&vtgate, PLAIN), Ok(done));
    }

    #[test]
    fn session_state_stands_after_the_info_text() {
        let payload = b"\x00\x00\x00\x02\x40\x00\x00\x00\x05\x01\x03\x02db";
        let ok = parse_ok_packet(payload, TRACKED).unwrap();
        assert_eq!(ok.info, b"");
        assert_eq!(ok.done.info, 0);
        assert_eq!(ok.session_state, b"\x01\x03\x02db");
    }

    #[test]
    fn an_ok_cut_anywhere_is_short_or_lacks_its_texts() {
        let payload = b"\x00\x00\x00\x02\x40\x00\x00\x04info\x05\x01\x03\x02db";
        for len in 0..payload.len() {
            assert_eq!(
                parse_ok(&payload[..len], TRACKED).is_ok(),
                len >= 7,
                "{len}"
            );
        }
    }

    #[test]
    fn an_error_before_the_login_has_no_sqlstate() {
        let failure = parse_err(b"\xFF\x10\x04Too many connections");
        assert_eq!((failure.code, &failure.sqlstate), (1040, b"HY000"));
        assert_eq!(failure.message, b"Too many connections");
        assert_eq!(
            parse_err(b""),
            Failure {
                sqlstate: *b"HY000",
                ..Failure::default()
            }
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        assert_eq!(write_err(&mut out, 1, 1045, *b"28000", "no"), 2);
        let failure = parse_err(&out[4..]);
        assert_eq!(
            (failure.code, failure.message.as_slice()),
            (1045, &b"no"[..])
        );
        assert_eq!(&failure.sqlstate, b"28000");
        let done = Done {
            affected_rows: 70_000,
            last_insert_id: 3,
            ..Done::default()
        };
        out.clear();
        write_ok(&mut out, 1, done);
        assert_eq!(parse_ok(&out[4..], PLAIN), Ok(done));
        out.clear();
        write_eof(&mut out, 5, Status(0x22), 3);
        assert_eq!(out, [5, 0, 0, 5, 0xFE, 3, 0, 0x22, 0]);
        assert_eq!(
            parse_eof(&out[4..]).map(|done| done.status),
            Ok(Status(0x22))
        );
    }
}
