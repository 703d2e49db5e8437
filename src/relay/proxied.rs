//! Whose connection it is, where a load balancer stands before the proxy and says so by HAProxy's PROXY protocol.
//!
//! Who may say so is for the config: a header of anybody else's is no header, but nonsense in place of a login.

use super::counters::Counters;
use crate::config::Live;
use crate::connect::Stream;
use crate::wire::proxied::{Addresses, Beginning, look};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Bytes that are read at a time: most headers are shorter.
const READ: usize = 256;

/// Whose headers are believed, and how long one is waited for.
#[derive(Clone, Debug)]
pub(super) struct Balancers {
    /// Connections from these networks begin with a header.
    pub(super) networks: Vec<IpNet>,
    /// It must have come by then.
    pub(super) within: Live<Duration>,
}

impl Balancers {
    /// Whether a connection from this address begins with a header.
    pub(super) fn has(&self, peer: IpAddr) -> bool {
        // An address of an IPv6 socket's may be an IPv4 one in disguise.
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }

    /// The ends of the connection that a balancer passes on, `ends` being those of its own; `None` where it does
    /// not say it as it must.
    pub(super) async fn hear(
        &self,
        client: &mut Stream,
        ends: Addresses,
        counters: &Counters,
    ) -> Option<Addresses> {
        match timeout(self.within.now(), header(client)).await {
            Ok(Ok(told)) => return Some(told.unwrap_or(ends)),
            // A look whether somebody listens, as balancers have.
            Ok(Err(Unheard::Left)) => counters.probes.add(1),
            Ok(Err(Unheard::Wrong(why))) => refused(ends, counters, &why),
            Err(_) => refused(ends, counters, "it did not come in time"),
        }
        None
    }
}

fn refused(ends: Addresses, counters: &Counters, why: &str) {
    counters.proxy_headers_wrong.add(1);
    // A balancer that is set wrongly does this for every connection: the first ones are said, then ever fewer.
    if !counters.proxy_headers_wrong.value().is_power_of_two() {
        return;
    }
    tracing::warn!(peer = %ends.client, "a connection was closed: it is of listen.proxy_protocol_networks and did not begin with a PROXY header ({why}); is the load balancer set to send one?");
}

enum Unheard {
    Left,
    Wrong(String),
}

async fn header(client: &mut Stream) -> Result<Option<Addresses>, Unheard> {
    let mut bytes = Vec::with_capacity(READ);
    loop {
        let read = client.read_buf(&mut bytes).await;
        if read.is_err() || matches!(read, Ok(0)) {
            return Err(match bytes.is_empty() {
                true => Unheard::Left,
                false => Unheard::Wrong("it broke off".to_owned()),
            });
        }
        match look(&bytes) {
            Beginning::Part => {}
            Beginning::Whole(told) => return Ok(told),
            Beginning::Wrong(why) => return Err(Unheard::Wrong(why)),
        }
    }
}
