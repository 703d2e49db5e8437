//! The header of HAProxy's PROXY protocol, versions 1 and 2: whose connection it is, told before the first byte of
//! MySQL's own protocol by who stands between. Pure; the format is `ppp`'s to know.
//!
//! What else a version 2 header may carry is passed over.

use ppp::{HeaderResult, PartialResult, v1, v2};
use std::net::SocketAddr;

/// A longer header is refused, in bytes: what load balancers send beside the addresses is far shorter.
const HEADER_MAX: usize = 4096;

const V1_PREFIX: &[u8] = b"PROXY ";

/// A line of version 1 is no longer, in bytes, its end included.
const V1_MAX: usize = 107;

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub client: SocketAddr,
    /// What it has connected to.
    pub met: SocketAddr,
}

impl Addresses {
    /// Of a client and what it has met. An IPv4 address that an IPv6 socket tells in disguise is told as it is: servers
    /// hold it against the hosts of their accounts.
    #[must_use]
    pub fn between(client: SocketAddr, met: SocketAddr) -> Self {
        let plain = |one: SocketAddr| SocketAddr::new(one.ip().to_canonical(), one.port());
        Self {
            client: plain(client),
            met: plain(met),
        }
    }
}

/// What bytes that were received so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A part of a header.
    Part,
    /// A header and nothing else. Without addresses, who stands between speaks for itself.
    Whole(Option<Addresses>),
    /// No header, and why.
    Wrong(String),
}

/// Looks at what a connection began with.
#[must_use]
pub fn look(bytes: &[u8]) -> Beginning {
    let begins = |prefix: &[u8]| bytes.starts_with(prefix) || prefix.starts_with(bytes);
    if !begins(V1_PREFIX) && !begins(v2::PROTOCOL_PREFIX) {
        return Beginning::Wrong("it begins with something else".to_owned());
    }
    // A line is read once it is whole: of a part of a number nobody can tell whether it is one.
    let is_line = bytes.first() == Some(&b'P');
    if is_line && !bytes.contains(&b'\n') && bytes.len() < V1_MAX {
        return Beginning::Part;
    }
    let parsed = HeaderResult::parse(bytes);
    if parsed.is_incomplete() {
        if is_line {
            return Beginning::Wrong("its line is incomplete".to_owned());
        }
        if bytes.len() >= HEADER_MAX {
            return Beginning::Wrong(format!("it is longer than {HEADER_MAX} bytes"));
        }
        return Beginning::Part;
    }
    let (used, addresses) = match parsed {
        HeaderResult::V1(Ok(header)) => (header.header.len(), of_v1(header.addresses)),
        HeaderResult::V2(Ok(header)) => {
            let told = header.command == v2::Command::Proxy;
            let addresses = told.then(|| of_v2(header.addresses)).flatten();
            (header.len(), addresses)
        }
        HeaderResult::V1(Err(error)) => return Beginning::Wrong(error.to_string()),
        HeaderResult::V2(Err(error)) => return Beginning::Wrong(error.to_string()),
    };
    if used < bytes.len() {
        // The server greets first.
        return Beginning::Wrong("something comes behind it before the greeting".to_owned());
    }
    Beginning::Whole(addresses)
}

fn of_v1(addresses: v1::Addresses) -> Option<Addresses> {
    match addresses {
        v1::Addresses::Tcp4(ip) => Some(Addresses::between(
            (ip.source_address, ip.source_port).into(),
            (ip.destination_address, ip.destination_port).into(),
        )),
        v1::Addresses::Tcp6(ip) => Some(Addresses::between(
            (ip.source_address, ip.source_port).into(),
            (ip.destination_address, ip.destination_port).into(),
        )),
        v1::Addresses::Unknown => None,
    }
}

fn of_v2(addresses: v2::Addresses) -> Option<Addresses> {
    match addresses {
        v2::Addresses::IPv4(ip) => Some(Addresses::between(
            (ip.source_address, ip.source_port).into(),
            (ip.destination_address, ip.destination_port).into(),
        )),
        v2::Addresses::IPv6(ip) => Some(Addresses::between(
            (ip.source_address, ip.source_port).into(),
            (ip.destination_address, ip.destination_port).into(),
        )),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    }
}

/// A version 1 header; without addresses, or where they are of two families, the proxy speaks for itself.
#[must_use]
pub fn header_v1(addresses: Option<Addresses>) -> Vec<u8> {
    let told = addresses.map(|ends| v1::Addresses::from((ends.client, ends.met)));
    format!("{}", told.unwrap_or_default()).into_bytes()
}

/// The same in version 2.
#[must_use]
pub fn header_v2(addresses: Option<Addresses>) -> Vec<u8> {
    let told = addresses.map(|ends| v2::Addresses::from((ends.client, ends.met)));
    let told = told.filter(|told| *told != v2::Addresses::Unspecified);
    let (command, protocol) = match told {
        Some(_) => (v2::Command::Proxy, v2::Protocol::Stream),
        None => (v2::Command::Local, v2::Protocol::Unspecified),
    };
    let told = told.unwrap_or(v2::Addresses::Unspecified);
    let built = v2::Builder::with_addresses(v2::Version::Two | command, protocol, told).build();
    // It fails for headers that are too long alone.
    built.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, met: &str) -> Addresses {
        Addresses {
            client: client.parse().unwrap(),
            met: met.parse().unwrap(),
        }
    }

    /// Both as HAProxy's text has them.
    const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 3306\r\n";
    const V2: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\xdc\x04\x0c\xea";

    #[test]
    fn both_versions_are_read_and_written() {
        let told = ends("192.0.2.1:56324", "198.51.100.7:3306");
        assert_eq!(look(V1), Beginning::Whole(Some(told)));
        assert_eq!(look(V2), Beginning::Whole(Some(told)));
        assert_eq!(header_v1(Some(told)), V1);
        assert_eq!(header_v2(Some(told)), V2);
        let six = ends("[2001:db8::1]:1", "[2001:db8::2]:3306");
        for header in [header_v1(Some(six)), header_v2(Some(six))] {
            assert_eq!(look(&header), Beginning::Whole(Some(six)));
        }
    }

    #[test]
    fn an_address_in_disguise_is_told_as_it_is() {
        let mapped = Addresses::between(
            "[::ffff:192.0.2.1]:1".parse().unwrap(),
            "[::ffff:192.0.2.2]:3306".parse().unwrap(),
        );
        assert_eq!(mapped, ends("192.0.2.1:1", "192.0.2.2:3306"));
        let line = b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 3306\r\n";
        assert_eq!(look(line), Beginning::Whole(Some(mapped)));
    }

    #[test]
    fn who_stands_between_may_speak_for_itself() {
        let mixed = ends("192.0.2.1:1", "[2001:db8::2]:3306");
        for header in [
            header_v1(None),
            header_v2(None),
            header_v1(Some(mixed)),
            header_v2(Some(mixed)),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
        ] {
            assert_eq!(look(&header), Beginning::Whole(None), "{header:?}");
        }
    }

    #[test]
    fn a_part_is_waited_for_however_it_is_cut() {
        for header in [V1, V2] {
            for cut in 0..header.len() {
                assert_eq!(look(&header[..cut]), Beginning::Part, "{cut} of {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_apart() {
        let mut long = V2[..14].to_vec();
        long.extend([0xFF, 0xFF]);
        long.resize(HEADER_MAX, 0);
        let mut more = V2.to_vec();
        more.push(0);
        for (bytes, why) in [
            (b"\x20\0\0\x01".to_vec(), "something else"),
            (b"PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n".to_vec(), ""),
            (b"PROXY TCP4 1.2.3.4\n".to_vec(), ""),
            (b"GET / HTTP/1.1\r\n".to_vec(), "something else"),
            (b"PO".to_vec(), "something else"),
            ([b"PROXY TCP4 ", &[b'1'; 107][..]].concat(), ""),
            (long, "longer"),
            (more, "behind"),
        ] {
            let Beginning::Wrong(said) = look(&bytes) else {
                panic!("{bytes:?} is taken for a header");
            };
            assert!(said.contains(why), "{said}");
        }
    }
}
