//! The console's greeting, and who may come in: with a token configured, whoever proves to know it,
//! by mysql_native_password or by caching_sha2_password's fast path; else anybody who reaches a
//! loopback address. The user's name does not matter.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>

use super::answer;
use super::ask::Fault;
use super::chatter;
use super::session::{Ended, Line};
use super::{CONNECTIONS_MAX, Shared, count};
use crate::admin::access::guessed;
use crate::admin::few::open_to;
use crate::admin::places::LetIn;
use crate::admin::who::Caller;
use crate::config::{Role, Secret};
use crate::wire::capability::Capabilities;
use crate::wire::greeting::NONCE_LEN;
use crate::wire::login::{AUTH_MORE, AUTH_SWITCH, FAST_AUTH_OK, Login, SslRequest};
use crate::wire::packet::write_packet;
use crate::wire::reply::write_err;
use crate::wire::status::Status;
use mysql_common::scramble::{scramble_native, scramble_sha256};
use subtle::ConstantTimeEq;

/// What is offered: nothing that would give answers another form.
pub(super) const CAPABILITIES: Capabilities = Capabilities::LONG_PASSWORD
    .with(Capabilities::LONG_FLAG)
    .with(Capabilities::CONNECT_WITH_DB)
    .with(Capabilities::PROTOCOL_41)
    .with(Capabilities::TRANSACTIONS)
    .with(Capabilities::SECURE_CONNECTION)
    .with(Capabilities::PLUGIN_AUTH)
    .with(Capabilities::CONNECT_ATTRS)
    .with(Capabilities::PLUGIN_AUTH_LENENC_DATA);

/// A login's packet at most, in bytes.
const LOGIN_BYTES_MAX: usize = 64 << 10;

const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";

/// utf8mb4_general_ci.
const COLLATION: u8 = 45;

/// Greets a client and lets it in, or tells it why not. Who it is.
pub(super) async fn log_in(
    line: &mut Line,
    shared: &Shared,
    number: u32,
    let_in: &LetIn,
) -> Result<Caller, Ended> {
    let random = rustls::crypto::ring::default_provider().secure_random;
    let Some(nonce) = nonce(|bytes| random.fill(bytes).is_ok()) else {
        tracing::error!("this machine gives no random bytes, so nobody can log in to the console");
        let text = "this machine gives no random bytes, so nobody can prove a password";
        write_err(line.out(), 0, 1105, *b"HY000", text);
        line.send().await?;
        return Err(Ended::Left);
    };
    write_packet(line.out(), 0, &greeting(number, &nonce));
    line.send().await?;
    let (mut seq, payload) = line.read(LOGIN_BYTES_MAX).await?;
    if SslRequest::is(&payload) {
        let fault = Fault::new(1043, b"08S01", "the console offers no TLS (--skip-ssl)");
        return refuse(line, seq, &fault).await;
    }
    let Ok(login) = Login::parse(&payload) else {
        let fault = Fault::new(1043, b"08S01", "Bad handshake");
        return refuse(line, seq, &fault).await;
    };
    let plugin = match login.auth_plugin.as_deref() {
        Some(name) if name == CACHING_SHA2.as_bytes() => CACHING_SHA2,
        _ => NATIVE,
    };
    let mut proof = login.auth_response;
    let caller = if shared.holders.are_all() {
        Caller::anybody()
    } else {
        if proof.len() != proof_len(plugin) {
            write_packet(line.out(), seq.wrapping_add(1), &switch(plugin, &nonce));
            line.send().await?;
            (seq, proof) = line.read(LOGIN_BYTES_MAX).await?;
        }
        let is_of = |token: &Secret| is_proof(plugin, &proof, &nonce, token);
        let Some(caller) = shared.holders.prove(is_of) else {
            count(&shared.counters.denied);
            guessed(line.peer()).await;
            return refuse(line, seq, &Fault::new(1045, b"28000", DENIED)).await;
        };
        caller
    };
    if let Some(fault) = login
        .database
        .and_then(|name| chatter::no_such_database(&String::from_utf8_lossy(&name)))
    {
        return refuse(line, seq, &fault).await;
    }
    if !let_in.set(caller.role()) {
        count(&shared.counters.refused);
        return refuse(line, seq, &too_many_viewers()).await;
    }
    seq = seq.wrapping_add(1);
    // Whoever sent no password expects OK, and else that its proof was found good.
    if plugin == CACHING_SHA2 && proof.len() == proof_len(plugin) {
        seq = write_packet(line.out(), seq, &[AUTH_MORE, FAST_AUTH_OK]);
    }
    answer::ok(line.out(), seq);
    line.send().await.map(|()| caller)
}

/// A proof is made of the token itself: who has its SHA-256 alone could not tell it from another one, or would need
/// no more than that to log in.
const DENIED: &str = "Access denied: the password is the admin's token (admin.token_file, or one that admin.tokens_file has as `token`, not as `sha256`)";

/// What is told to a viewer for whom there is no place.
fn too_many_viewers() -> Fault {
    let open = open_to(Role::Viewer, CONNECTIONS_MAX);
    let kept = CONNECTIONS_MAX - open;
    let text = format!(
        "Too many connections: viewers have {open} of the console's {CONNECTIONS_MAX} places, the other {kept} are for operators"
    );
    Fault::new(1040, b"08004", text)
}

async fn refuse<T>(line: &mut Line, seq: u8, fault: &Fault) -> Result<T, Ended> {
    answer::fault(line.out(), seq.wrapping_add(1), fault);
    line.send().await?;
    Err(Ended::Left)
}

fn greeting(number: u32, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    let (first, rest) = nonce.split_at(8);
    let [low0, low1, high0, high1] = CAPABILITIES.0.to_le_bytes();
    let mut payload = vec![10];
    payload.extend_from_slice(chatter::VERSION.as_bytes());
    payload.push(0);
    payload.extend_from_slice(&number.to_le_bytes());
    payload.extend_from_slice(first);
    payload.extend_from_slice(&[0, low0, low1, COLLATION]);
    payload.extend_from_slice(&Status::AUTOCOMMIT.to_le_bytes());
    payload.extend_from_slice(&[high0, high1, 21]);
    payload.extend_from_slice(&[0; 10]);
    payload.extend_from_slice(rest);
    payload.push(0);
    payload.extend_from_slice(NATIVE.as_bytes());
    payload.push(0);
    payload
}

fn switch(plugin: &str, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
    let mut payload = vec![AUTH_SWITCH];
    payload.extend_from_slice(plugin.as_bytes());
    payload.push(0);
    payload.extend_from_slice(nonce);
    payload.push(0);
    payload
}

fn proof_len(plugin: &str) -> usize {
    if plugin == CACHING_SHA2 { 32 } else { 20 }
}

fn is_proof(plugin: &str, proof: &[u8], nonce: &[u8; NONCE_LEN], token: &Secret) -> bool {
    let token = token.0.as_bytes();
    let expected = if plugin == CACHING_SHA2 {
        scramble_sha256(nonce, token).map(|proof| proof.to_vec())
    } else {
        scramble_native(nonce, token).map(|proof| proof.to_vec())
    };
    expected.is_some_and(|expected| bool::from(expected.ct_eq(proof)))
}

/// Printable bytes, as servers do: no zero, which would end it. `None` where there are no random
/// ones: a password that is proved to bytes that are known can be proved again by whoever listened.
fn nonce(fill: impl Fn(&mut [u8]) -> bool) -> Option<[u8; NONCE_LEN]> {
    let mut nonce = [0; NONCE_LEN];
    fill(&mut nonce).then(|| nonce.map(|byte| b'0' + byte % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_random_bytes_nobody_is_greeted() {
        assert_eq!(nonce(|_| false), None);
        let filled = nonce(|bytes| {
            bytes.fill(77);
            true
        });
        assert_eq!(filled, Some([b'0' + 77 % 64; NONCE_LEN]));
    }
}
