//! The greeting, and the login that is let in whatever it says.

use crate::protocol::{
    AUTOCOMMIT, COLLATION, CONNECT_ATTRS, CONNECT_WITH_DB, DEPRECATE_EOF, LONG_FLAG, LONG_PASSWORD,
    MULTI_RESULTS, MULTI_STATEMENTS, NATIVE_PASSWORD, NONCE_LEN, PLUGIN_AUTH,
    PLUGIN_AUTH_LENENC_DATA, PROTOCOL_41, PS_MULTI_RESULTS, SECURE_CONNECTION, SSL, TRANSACTIONS,
    packet,
};

/// What understudy takes for a MySQL that it knows well.
pub const VERSION: &[u8] = b"8.0.36-canned";

const OFFERED: u32 = LONG_PASSWORD
    | LONG_FLAG
    | CONNECT_WITH_DB
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PS_MULTI_RESULTS
    | PLUGIN_AUTH
    | CONNECT_ATTRS
    | PLUGIN_AUTH_LENENC_DATA
    | DEPRECATE_EOF;

/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html>
pub fn greeting(thread: u32, tls: bool) -> Vec<u8> {
    let [low0, low1, high0, high1] = (OFFERED | if tls { SSL } else { 0 }).to_le_bytes();
    let nonce = [b'n'; NONCE_LEN];
    let (begin, end) = nonce.split_at(8);
    let mut payload = vec![10];
    payload.extend_from_slice(VERSION);
    payload.push(0);
    payload.extend_from_slice(&thread.to_le_bytes());
    payload.extend_from_slice(begin);
    payload.extend_from_slice(&[0, low0, low1, COLLATION]);
    payload.extend_from_slice(&AUTOCOMMIT.to_le_bytes());
    payload.extend_from_slice(&[high0, high1, NONCE_LEN as u8 + 1]);
    payload.extend_from_slice(&[0; 10]);
    payload.extend_from_slice(end);
    payload.push(0);
    payload.extend_from_slice(NATIVE_PASSWORD);
    payload.push(0);
    let mut out = Vec::new();
    packet(&mut out, 0, &payload);
    out
}

/// The client's capabilities, of its login or of its wish for TLS.
pub fn capabilities(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().copied().map(u32::from_le_bytes)
}

/// A client that offers another plugin's answer is asked for a native one, and let in with that too.
pub fn switch(sequence: u8) -> Vec<u8> {
    let mut payload = vec![0xfe];
    payload.extend_from_slice(NATIVE_PASSWORD);
    payload.push(0);
    payload.extend_from_slice(&[b'n'; NONCE_LEN]);
    payload.push(0);
    let mut out = Vec::new();
    packet(&mut out, sequence, &payload);
    out
}

/// Whether the login names the native plugin, or none.
pub fn is_native(capabilities: u32, payload: &[u8]) -> bool {
    capabilities & PLUGIN_AUTH == 0
        || payload
            .windows(NATIVE_PASSWORD.len())
            .any(|window| window == NATIVE_PASSWORD)
}
