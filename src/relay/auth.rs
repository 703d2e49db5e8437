//! The dialogue of a login, relayed packet by packet until the primary's OK or ERR. Whoever
//! speaks is passed on, so every authentication plugin works; what is read is only what tells
//! the end, and what would carry a password in the clear where only one leg is encrypted.

use super::counters::Counters;
use super::refuse::Refusal;
use crate::connect::{Packet, PacketReader, Stream, write_one};
use crate::wire::login::{AUTH_MORE, AUTH_NEXT_FACTOR, AUTH_SWITCH, AuthSwitch, FULL_AUTH};
use crate::wire::reply;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

/// Why a dialogue came to no verdict.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client left, or spoke nonsense.
    Client,
    /// The primary left, or spoke nonsense.
    Primary(io::Error),
    /// The plugin needs TLS on both legs or on none. The sequence number is the refusal's.
    Mixed(Refusal, u8),
    /// It cannot be led to its end. The sequence number is the refusal's.
    Refused(Refusal, u8),
    /// It took too long.
    Late,
    /// The session is to end, in the middle of it; that was counted.
    Ended(Refusal),
}

impl Broken {
    /// Counts it; what is left to say to the client, and with which sequence number.
    pub(super) fn refusal(
        self,
        counters: &Counters,
        name: &str,
        next_seq: u8,
    ) -> Option<(Refusal, u8)> {
        match self {
            Self::Client => {
                counters.bad_logins.add(1);
                None
            }
            Self::Late => {
                counters.logins_timed_out.add(1);
                None
            }
            Self::Primary(error) => {
                counters.primary_lost.add(1);
                tracing::warn!(primary = %name, %error, "the primary broke a login off");
                Some((Refusal::primary_lost(name), next_seq))
            }
            Self::Ended(refusal) => Some((refusal, next_seq)),
            Self::Refused(refusal, seq) => Some((refusal, seq)),
            Self::Mixed(refusal, seq) => {
                counters.logins_mixed.add(1);
                Some((refusal, seq))
            }
        }
    }
}

/// A dialogue under way.
#[derive(Debug)]
pub(super) struct Dialogue<'a> {
    pub(super) client: &'a mut Stream,
    pub(super) primary: &'a mut Stream,
    pub(super) from_client: PacketReader,
    pub(super) from_primary: PacketReader,
    /// What the client's sequence numbers lack to be the primary's.
    pub(super) shift: u8,
    /// The plugin that is spoken.
    pub(super) plugin: Vec<u8>,
    /// The primary's name.
    pub(super) name: &'a str,
    /// The client leg's next sequence number.
    pub(super) next_seq: u8,
}

enum Spoke {
    Client(io::Result<Packet>),
    Primary(io::Result<Packet>),
}

impl Dialogue<'_> {
    /// Relays until the primary's verdict, which is returned, ready for the client and not sent.
    ///
    /// Not cancel-safe: after a time-out the session can only be closed.
    pub(super) async fn verdict(&mut self) -> Result<Packet, Broken> {
        loop {
            match self.next().await {
                Spoke::Client(packet) => {
                    let mut packet = packet.map_err(|_| Broken::Client)?;
                    self.next_seq = packet.seq().wrapping_add(1);
                    packet.shift(self.shift);
                    write_one(self.primary, &packet)
                        .await
                        .map_err(Broken::Primary)?;
                }
                Spoke::Primary(packet) => {
                    let mut packet = packet.map_err(Broken::Primary)?;
                    packet.shift(self.shift.wrapping_neg());
                    if matches!(packet.first(), Some(reply::OK | reply::ERR)) {
                        return Ok(packet);
                    }
                    self.refuse_mixed(&packet)?;
                    self.next_seq = packet.seq().wrapping_add(1);
                    write_one(self.client, &packet)
                        .await
                        .map_err(|_| Broken::Client)?;
                }
            }
        }
    }

    /// The next packet of either side, the primary's first.
    async fn next(&mut self) -> Spoke {
        poll_fn(|context| {
            if let Poll::Ready(packet) = self.from_primary.poll(self.primary, context) {
                return Poll::Ready(Spoke::Primary(packet));
            }
            // A command that the client sent before the verdict begins its numbers anew: it stays
            // where it is, however long it may be.
            match ready!(self.from_client.poll_seq(self.client, context)) {
                Ok(0) if self.next_seq != 0 => Poll::Pending,
                Ok(_) => self
                    .from_client
                    .poll(self.client, context)
                    .map(Spoke::Client),
                Err(error) => Poll::Ready(Spoke::Client(Err(error))),
            }
        })
        .await
    }

    fn refuse_mixed(&mut self, packet: &Packet) -> Result<(), Broken> {
        let full = match packet.payload() {
            [AUTH_SWITCH | AUTH_NEXT_FACTOR, ..] => {
                if let Ok(switch) = AuthSwitch::parse(packet.payload()) {
                    self.plugin = switch.plugin.to_vec();
                }
                false
            }
            [AUTH_MORE, FULL_AUTH] => self.plugin == b"caching_sha2_password",
            _ => false,
        };
        let mixed = self.client.is_tls() != self.primary.is_tls();
        if mixed && (full || needs_equal_legs(&self.plugin, self.client.is_tls())) {
            return Err(Broken::Mixed(self.mixed(), packet.seq()));
        }
        Ok(())
    }

    /// What the client sent behind the login, for whoever reads on.
    pub(super) fn into_ahead(self) -> (Vec<u8>, Vec<u8>) {
        (
            self.from_client.into_ahead(),
            self.from_primary.into_ahead(),
        )
    }

    fn mixed(&self) -> Refusal {
        let plugin = String::from_utf8_lossy(&self.plugin);
        Refusal::mixed_legs(&plugin, self.name, self.client.is_tls())
    }
}

/// Whether a client with this plugin must not be relayed over mixed legs: it would send its
/// password in the clear over a leg that is not encrypted, or what the primary does not expect.
pub(super) fn needs_equal_legs(plugin: &[u8], client_tls: bool) -> bool {
    match plugin {
        b"sha256_password" => true,
        b"mysql_clear_password" | b"dialog" => client_tls,
        _ => false,
    }
}
