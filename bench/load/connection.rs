//! A client's connection: login, prepared statements, one request.

use super::answer::Scanner;
use crate::protocol::{
    COLLATION, CONNECT_WITH_DB, DEPRECATE_EOF, LONG_FLAG, LONG_PASSWORD, MULTI_RESULTS,
    NATIVE_PASSWORD, NONCE_LEN, PLUGIN_AUTH, PROTOCOL_41, PS_MULTI_RESULTS, SECURE_CONNECTION, SSL,
    STMT_PREPARE, TRANSACTIONS, header, packet,
};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const ASKED: u32 = LONG_PASSWORD
    | LONG_FLAG
    | CONNECT_WITH_DB
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_RESULTS
    | PS_MULTI_RESULTS
    | PLUGIN_AUTH
    | DEPRECATE_EOF;

/// Where connections go.
#[derive(Clone)]
pub struct Door {
    port: u16,
    tls: Option<TlsConnector>,
}

impl Door {
    pub fn new(port: u16, tls: Option<&Path>) -> Result<Self> {
        Ok(Self {
            port,
            tls: tls.map(connector).transpose()?,
        })
    }
}

fn connector(directory: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(directory.join("ca.pem")).context("ca.pem")? {
        roots.add(root?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(
        tokio_rustls::rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_root_certificates(roots)
    .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// See the module.
pub struct Connection {
    stream: Leg,
    /// The prepared statements'.
    ids: Vec<u32>,
}

enum Leg {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How a request ended.
pub struct Answered {
    pub bytes: u64,
    pub is_error: bool,
}

impl Connection {
    pub async fn open(door: &Door, statements: &[&str]) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", door.port)).await?;
        stream.set_nodelay(true)?;
        let (sequence, _) = read_packet(&mut stream).await.context("the greeting")?;
        let mut stream = match &door.tls {
            None => {
                log_in(&mut stream, ASKED, sequence).await?;
                Leg::Plain(stream)
            }
            Some(tls) => {
                let mut out = Vec::new();
                packet(&mut out, sequence + 1, &login_head(ASKED | SSL));
                stream.write_all(&out).await?;
                let name = ServerName::try_from("localhost")?;
                let mut stream = tls.connect(name, stream).await.context("TLS")?;
                log_in(&mut stream, ASKED | SSL, sequence + 1).await?;
                Leg::Tls(Box::new(stream))
            }
        };
        let mut ids = Vec::new();
        for text in statements {
            ids.push(match &mut stream {
                Leg::Plain(stream) => prepare(stream, text).await?,
                Leg::Tls(stream) => prepare(stream, text).await?,
            });
        }
        Ok(Self { stream, ids })
    }

    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Sends a command, and reads its answer to the end.
    pub async fn request(
        &mut self,
        command: &[u8],
        buffer: &mut [u8],
    ) -> std::io::Result<Answered> {
        match &mut self.stream {
            Leg::Plain(stream) => request(stream, command, buffer).await,
            Leg::Tls(stream) => request(stream, command, buffer).await,
        }
    }
}

async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    command: &[u8],
    buffer: &mut [u8],
) -> std::io::Result<Answered> {
    stream.write_all(command).await?;
    stream.flush().await?;
    let mut scanner = Scanner::default();
    let mut bytes = 0;
    loop {
        let n = stream.read(buffer).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes += n as u64;
        if scanner.feed(buffer.get(..n).unwrap_or_default()) {
            let is_error = scanner.is_error;
            return Ok(Answered { bytes, is_error });
        }
    }
}

/// What a wish for TLS and a login begin with.
fn login_head(capabilities: u32) -> Vec<u8> {
    let mut payload = capabilities.to_le_bytes().to_vec();
    payload.extend_from_slice(&(64_u32 << 20).to_le_bytes());
    payload.push(COLLATION);
    payload.extend_from_slice(&[0; 23]);
    payload
}

/// Logs in where anybody is let in.
async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    capabilities: u32,
    sequence: u8,
) -> Result<()> {
    let mut payload = login_head(capabilities);
    payload.extend_from_slice(b"app\0");
    payload.push(NONCE_LEN as u8);
    payload.extend_from_slice(&[b'p'; NONCE_LEN]);
    payload.extend_from_slice(b"app\0");
    payload.extend_from_slice(NATIVE_PASSWORD);
    payload.push(0);
    let mut out = Vec::new();
    packet(&mut out, sequence + 1, &payload);
    stream.write_all(&out).await?;
    stream.flush().await?;
    let (mut sequence, mut answer) = read_packet(stream).await.context("the login's answer")?;
    if answer.first() == Some(&0xfe) {
        let mut out = Vec::new();
        packet(&mut out, sequence + 1, &[b'p'; NONCE_LEN]);
        stream.write_all(&out).await?;
        stream.flush().await?;
        (sequence, answer) = read_packet(stream).await?;
    }
    match answer.first() {
        Some(0) => Ok(()),
        _ => bail!("refused: {} ({sequence})", String::from_utf8_lossy(&answer)),
    }
}

async fn prepare<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, text: &str) -> Result<u32> {
    let mut payload = vec![STMT_PREPARE];
    payload.extend_from_slice(text.as_bytes());
    let mut out = Vec::new();
    packet(&mut out, 0, &payload);
    stream.write_all(&out).await?;
    stream.flush().await?;
    let (_, answer) = read_packet(stream).await?;
    let Some([0, a, b, c, d, columns0, columns1, parameters0, parameters1]) = answer.first_chunk()
    else {
        bail!("{text:?} was not prepared");
    };
    let columns = u16::from_le_bytes([*columns0, *columns1]);
    let parameters = u16::from_le_bytes([*parameters0, *parameters1]);
    for _ in 0..columns + parameters {
        read_packet(stream).await?;
    }
    Ok(u32::from_le_bytes([*a, *b, *c, *d]))
}

async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<(u8, Vec<u8>)> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await?;
    let (length, sequence) = header(&bytes).unwrap_or_default();
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok((sequence, payload))
}
