//! Opens a connection and says whose it is, to servers that take HAProxy's PROXY protocol.

use super::{Dial, Stream};
use crate::config::{ProxyProtocol, Server};
use crate::wire::proxied::{Addresses, header_v1, header_v2};
use std::io;
use tokio::io::AsyncWriteExt;

/// Dials the server; where its config says so, the connection begins with a header that names the client, or
/// understudy itself where there is none.
///
/// Cancel-safe: a connection that is given up closes.
pub(crate) async fn dial_for(
    dial: &dyn Dial,
    server: &Server,
    client: Option<Addresses>,
) -> io::Result<Stream> {
    let mut stream = dial.dial(server).await?;
    let header = match server.proxy_protocol {
        ProxyProtocol::Off => return Ok(stream),
        ProxyProtocol::V1 => header_v1(client),
        ProxyProtocol::V2 => header_v2(client),
    };
    stream.write_all(&header).await?;
    Ok(stream)
}
