//! TLS with clients: the config's certificate, or a name for what is wrong with it.

use crate::connect::Stream;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Why clients cannot be served over TLS.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error(
        "{path} cannot be used for TLS with clients: {why}; set listen.tls_cert and listen.tls_key to PEM files"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Key and certificate do not belong together, or cannot be used.
    #[error("the certificate and key in [listen] cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

/// Reads certificate chain and key.
pub(super) fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, CertificateError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(chain, &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> CertificateError {
    CertificateError::File {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// Shakes hands with a client that asked for TLS.
pub(super) async fn accept(acceptor: &TlsAcceptor, client: Stream) -> io::Result<Stream> {
    let Stream::Tcp(tcp) = client else {
        return Err(io::Error::other("TLS goes over TCP only"));
    };
    let shaken = acceptor.accept(tcp).await?;
    Ok(Stream::Tls(Box::new(shaken.into())))
}
