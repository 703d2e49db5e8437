//! TLS on the HTTP door: the certificate, read again when it changes, and a word for who speaks plain HTTP there.

use super::watched;
use crate::config;
use crate::connect::{self, CertificateError, Stream};
use arc_swap::ArcSwap;
use serde_json::json;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Hands are shaken within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Whoever speaks plain HTTP is told so within this time.
const TOLD: Duration = Duration::from_secs(2);

/// With this byte a TLS client begins: a record of its handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Certificate and key, as their files have them now.
pub struct Tls {
    files: (PathBuf, PathBuf),
    now: ArcSwap<TlsAcceptor>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// As the config names it; nothing where it names none.
    ///
    /// # Errors
    /// A file cannot be read or used: the config's fault.
    pub fn open(admin: &config::Admin) -> Result<Option<Arc<Self>>, CertificateError> {
        let Some(files) = admin.tls.clone() else {
            return Ok(None);
        };
        let now = ArcSwap::from_pointee(read(&files)?);
        Ok(Some(Arc::new(Self { files, now })))
    }

    /// Looks at the files until told to end.
    pub(super) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let (chain, key) = self.files.clone();
        let files = ("admin.tls_cert (and tls_key)", vec![chain, key]);
        let named = self.files.clone();
        let fresh = move || read(&named).map_err(|error| error.to_string());
        let take = |found: Option<TlsAcceptor>| {
            if let Some(found) = found {
                self.now.store(Arc::new(found));
            }
        };
        watched::keep(files, fresh, take, stop).await;
    }

    /// Shakes hands with who has connected.
    ///
    /// # Errors
    /// They speak no TLS, or not in time; who speaks HTTP has been told.
    pub(super) async fn accept(&self, mut stream: TcpStream) -> io::Result<Stream> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let mut first = [0];
        let seen = tokio::time::timeout(HANDSHAKE, stream.peek(&mut first));
        if seen.await.map_err(late)?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first != [HANDSHAKE_RECORD] {
            let [byte] = first;
            if byte.is_ascii_uppercase() {
                let _gone = tokio::time::timeout(TOLD, tell(&mut stream)).await;
            }
            return Err(io::Error::other("this is no TLS"));
        }
        let acceptor = self.now.load_full();
        let shaken = connect::accept(&acceptor, Stream::tcp(stream)?);
        tokio::time::timeout(HANDSHAKE, shaken)
            .await
            .map_err(late)?
    }
}

fn read((chain, key): &(PathBuf, PathBuf)) -> Result<TlsAcceptor, CertificateError> {
    connect::acceptor("admin", chain, key)
}

/// Says that this is no door for plain HTTP. Whatever was asked, a token may stand in it: it is answered nothing else.
async fn tell(stream: &mut TcpStream) -> io::Result<()> {
    // What has come is taken, or closing would throw the answer away.
    let mut asked = [0; 4096];
    let _head = stream.read(&mut asked).await?;
    let message = "this port speaks HTTPS: ask it by https://";
    let body = json!({"error": {"code": "bad_request", "message": message}}).to_string();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Until they have it and leave, or the time is over.
    while stream.read(&mut asked).await? > 0 {}
    Ok(())
}
