//! Dials over TCP, from the addresses of this machine that the config names for the server.
//!
//! A port is only taken once the server's address is known, so that one port serves as many
//! servers as there are. Which address comes next is no question of load: they take turns, and
//! one whose ports are used up is passed over.

use super::{Dial, Dialing, Stream};
use crate::config::Server;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// Dials over TCP: resolves the name at every connect and tries its addresses in turn, sets NODELAY
/// and keepalive.
#[derive(Debug, Default)]
pub struct Tcp {
    dialled: AtomicU32,
}

impl Dial for Tcp {
    fn dial<'a>(&'a self, server: &'a Server) -> Dialing<'a> {
        let name = (server.host.as_str(), server.port);
        let sources = server.source_addresses.as_slice();
        if sources.is_empty() {
            return Box::pin(async move { Stream::tcp(TcpStream::connect(name).await?) });
        }
        let dialled = self.dialled.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let mut last = nobody("the name has no address");
            for to in lookup_host(name).await? {
                match connect(to, turns(sources, dialled)).await {
                    Ok(stream) => return Stream::tcp(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

/// All sources, beginning with the one whose turn it is. Servers share the count of dials, and two that
/// are dialled alternately must not each see every second number only: the numbers are spread by the
/// golden ratio, which any regular part of them keeps even.
fn turns(sources: &[IpAddr], dialled: u32) -> impl Iterator<Item = IpAddr> {
    const GOLDEN: u32 = 0x9E37_79B9;
    let spread = u64::from(dialled.wrapping_mul(GOLDEN));
    let first = spread.saturating_mul(sources.len() as u64) >> 32;
    let first = usize::try_from(first).unwrap_or_default();
    let (before, from) = sources.split_at_checked(first).unwrap_or((&[], sources));
    from.iter().chain(before).copied()
}

/// Connects from the first source that has a port left.
async fn connect(to: SocketAddr, sources: impl Iterator<Item = IpAddr>) -> io::Result<TcpStream> {
    let mut last = nobody("none of source_addresses is of the server's family, IPv4 or IPv6");
    for source in sources.filter(|source| source.is_ipv4() == to.is_ipv4()) {
        match connect_from(source, to).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let why = format!(
                    "no connection can be opened from {source}: its ports are used up, or it is no \
                     address of this machine ({error})"
                );
                last = io::Error::new(error.kind(), why);
            }
            other => return other,
        }
    }
    Err(last)
}

async fn connect_from(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    leave_port_open(&socket);
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(to).await
}

/// Has the kernel choose the port at the connect. Without it a port would be taken for all servers at
/// once: the connection works all the same, but fewer are possible.
#[cfg(target_os = "linux")]
fn leave_port_open(socket: &TcpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
    let _ = setsockopt(socket, IpBindAddressNoPort, &true);
}

#[cfg(not(target_os = "linux"))]
fn leave_port_open(_: &TcpSocket) {}

fn nobody(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrNotAvailable, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use tokio::net::TcpListener;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn server(to: SocketAddr, sources: &[&str]) -> Server {
        Server {
            host: to.ip().to_string(),
            port: to.port(),
            source_addresses: addresses(sources),
            ..crate::connect::tests::server()
        }
    }

    #[test]
    fn sources_take_turns_also_where_two_servers_are_dialled_alternately() {
        for count in [2, 3, 4, 7] {
            let sources: Vec<IpAddr> = (1..=count).map(|n| [127, 0, 1, n].into()).collect();
            for every in [1, 2, 3, 5] {
                let mut used: BTreeMap<IpAddr, u32> = BTreeMap::new();
                for dialled in (0..).step_by(every).take(700) {
                    let turns: Vec<IpAddr> = turns(&sources, dialled).collect();
                    assert_eq!(turns.iter().collect::<BTreeSet<_>>().len(), sources.len());
                    *used.entry(turns[0]).or_default() += 1;
                }
                let even = 700 / u32::from(count);
                for times in used.values() {
                    assert!(times.abs_diff(even) <= even / 5, "{count} {every} {used:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn connections_come_from_every_source() {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = server(door.local_addr().unwrap(), &["127.0.1.1", "127.0.1.2"]);
        let (dial, mut seen, mut open) = (Tcp::default(), BTreeMap::new(), Vec::new());
        for _ in 0..20 {
            open.push(dial.dial(&server).await.unwrap());
            let (stream, peer) = door.accept().await.unwrap();
            open.push(Stream::tcp(stream).unwrap());
            *seen.entry(peer.ip().to_string()).or_insert(0) += 1;
        }
        let seen: Vec<(&str, i32)> = seen.iter().map(|(ip, n)| (ip.as_str(), *n)).collect();
        assert_eq!(seen, [("127.0.1.1", 10), ("127.0.1.2", 10)]);
    }

    /// What IP_BIND_ADDRESS_NO_PORT is for: bound beforehand, a port would be this address's alone.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_port_is_chosen_at_the_connect() {
        let socket = TcpSocket::new_v4().unwrap();
        leave_port_open(&socket);
        socket.bind("127.0.1.1:0".parse().unwrap()).unwrap();
        assert_eq!(socket.local_addr().unwrap().port(), 0);
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_is_passed_over_and_named_where_no_other_is_left() {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = door.local_addr().unwrap();
        let dial = Tcp::default();
        for _ in 0..4 {
            let mixed = server(to, &["192.0.2.1", "127.0.1.1"]);
            dial.dial(&mixed).await.unwrap();
            assert_eq!(door.accept().await.unwrap().1.ip().to_string(), "127.0.1.1");
        }
        let foreign = server(to, &["192.0.2.1"]);
        let said = dial.dial(&foreign).await.unwrap_err().to_string();
        assert!(said.contains("192.0.2.1"), "{said}");
        let other = server(to, &["2001:db8::1"]);
        let said = dial.dial(&other).await.unwrap_err().to_string();
        assert!(said.contains("family"), "{said}");
    }
}
