//! TLS with who connects to us, clients and operators: certificate and key from their files, or a name for what is
//! wrong with them.

use super::Stream;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Why nobody can be served over TLS.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error(
        "{path} cannot be used for TLS: {why}; set {section}.tls_cert and {section}.tls_key to PEM files"
    )]
    File {
        /// The config's section.
        section: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Key and certificate do not belong together, or cannot be used.
    #[error("the certificate and key in [{section}] cannot be used: {source}")]
    Pair {
        /// The config's section.
        section: &'static str,
        /// Why.
        source: rustls::Error,
    },
}

/// Reads the certificate chain and the key that a section of the config names.
///
/// # Errors
/// A file cannot be read or used, or the two do not belong together.
pub(crate) fn acceptor(
    section: &'static str,
    chain: &Path,
    key: &Path,
) -> Result<TlsAcceptor, CertificateError> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| CertificateError::File {
        section,
        path: path.to_owned(),
        why: error.to_string(),
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(chain, &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(certificates, key)
        })
        .map_err(|source| CertificateError::Pair { section, source })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shakes hands with who speaks TLS from its first byte on, or has just asked for it.
pub(crate) async fn accept(acceptor: &TlsAcceptor, client: Stream) -> io::Result<Stream> {
    let Stream::Tcp(tcp) = client else {
        return Err(io::Error::other("TLS goes over TCP only"));
    };
    let shaken = acceptor.accept(tcp).await?;
    Ok(Stream::Tls(Box::new(shaken.into())))
}
