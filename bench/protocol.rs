//! As much of MySQL's protocol as the canned server and the load need. Neither shares code with what is
//! measured: a mistake in both would not show.

/// PROTOCOL_41 and what every client of today asks for.
pub const LONG_PASSWORD: u32 = 1;
pub const LONG_FLAG: u32 = 1 << 2;
pub const CONNECT_WITH_DB: u32 = 1 << 3;
pub const PROTOCOL_41: u32 = 1 << 9;
pub const SSL: u32 = 1 << 11;
pub const TRANSACTIONS: u32 = 1 << 13;
pub const SECURE_CONNECTION: u32 = 1 << 15;
pub const MULTI_STATEMENTS: u32 = 1 << 16;
pub const MULTI_RESULTS: u32 = 1 << 17;
pub const PS_MULTI_RESULTS: u32 = 1 << 18;
pub const PLUGIN_AUTH: u32 = 1 << 19;
pub const CONNECT_ATTRS: u32 = 1 << 20;
pub const PLUGIN_AUTH_LENENC_DATA: u32 = 1 << 21;
pub const DEPRECATE_EOF: u32 = 1 << 24;

pub const IN_TRANSACTION: u16 = 1;
pub const AUTOCOMMIT: u16 = 2;

pub const QUIT: u8 = 0x01;
pub const INIT_DB: u8 = 0x02;
pub const QUERY: u8 = 0x03;
pub const STATISTICS: u8 = 0x09;
pub const PING: u8 = 0x0e;
pub const STMT_PREPARE: u8 = 0x16;
pub const STMT_EXECUTE: u8 = 0x17;
pub const STMT_SEND_LONG_DATA: u8 = 0x18;
pub const STMT_CLOSE: u8 = 0x19;

/// The scramble's length.
pub const NONCE_LEN: usize = 20;

pub const NATIVE_PASSWORD: &[u8] = b"mysql_native_password";

/// utf8mb4_general_ci.
pub const COLLATION: u8 = 45;

/// A packet shorter than 16 MiB, behind what is there.
pub fn packet(out: &mut Vec<u8>, sequence: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a short packet");
    let [a, b, c, _] = length.to_le_bytes();
    out.extend_from_slice(&[a, b, c, sequence]);
    out.extend_from_slice(payload);
}

/// The payload's length and the sequence number of a packet's header.
pub fn header(bytes: &[u8]) -> Option<(usize, u8)> {
    let [a, b, c, sequence] = *bytes.first_chunk::<4>()?;
    Some((u32::from_le_bytes([a, b, c, 0]) as usize, sequence))
}

/// A length-encoded text.
pub fn text(out: &mut Vec<u8>, text: &[u8]) {
    let length = text.len() as u64;
    let [a, b, c, ..] = length.to_le_bytes();
    match length {
        0..=250 => out.push(a),
        251..=0xffff => out.extend_from_slice(&[0xfc, a, b]),
        _ => out.extend_from_slice(&[0xfd, a, b, c]),
    }
    out.extend_from_slice(text);
}
