//! A canned MySQL server: lets anybody in and answers by the text alone, from bytes that were laid out
//! beforehand, so that it costs much less than any proxy. Told so, it behaves badly.
//!
//! One thread; no table, no parser, no state but whether a transaction is open. It refuses
//! nothing that it does not know: it answers OK.

mod answers;
mod greeting;
mod questions;
mod session;
mod statements;

use crate::arguments;
use answers::Answers;
use anyhow::{Context, Result};
use session::Session;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Connections that wait to be taken: a load opens thousands at once.
const BACKLOG: i32 = 4096;

/// How it answers.
pub struct House {
    answers: Answers,
    delay: Option<Duration>,
    flood: bool,
    tls: Option<TlsAcceptor>,
}

pub fn run(arguments: &arguments::Backend) -> Result<()> {
    let house = Rc::new(House {
        answers: Answers::new(),
        delay: (arguments.delay_ms > 0).then(|| Duration::from_millis(arguments.delay_ms)),
        flood: arguments.flood,
        tls: arguments.tls.as_deref().map(acceptor).transpose()?,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = listen(arguments.port)?;
        let mut number = 0;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            number += 1;
            // It ends with its connection; how, is the client's to say.
            drop(spawn_local(Session::serve(
                Rc::clone(&house),
                stream,
                number,
            )));
        }
    })
}

fn listen(port: u16) -> Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

fn acceptor(directory: &Path) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(directory.join("cert.pem"))
        .context("cert.pem")?
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).context("key.pem")?;
    let config = ServerConfig::builder_with_provider(Arc::new(
        tokio_rustls::rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_no_client_auth()
    .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
