//! TLS towards servers, by the five modes of MySQL's `--ssl-mode`, and the names of what fails.

use super::Stream;
use crate::config::{Server, TlsMode};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// What failed with TLS towards a server, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The roots cannot be read.
    #[error("no certificate authority could be read from {path}: {why}; set tls_ca to a PEM file")]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The server offers no TLS, and the config asks for it.
    #[error(
        "the server {0} offers no TLS, but its tls mode demands it; set tls = \"preferred\" or \"off\""
    )]
    NotOffered(String),
    /// The handshake failed.
    #[error(
        "the TLS handshake with the server {server} failed: {source}; a certificate that is not trusted needs tls_ca, a server too old for TLS 1.2 needs tls = \"off\""
    )]
    Handshake {
        /// The server's name.
        server: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server's address cannot stand in a certificate.
    #[error("{0} is no name that TLS could check")]
    Name(String),
    /// TLS itself could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// How TLS is meant towards one server; made once, at the start.
#[derive(Clone, Debug)]
pub struct TlsContext {
    mode: TlsMode,
    config: Option<Arc<ClientConfig>>,
}

impl TlsContext {
    /// Reads the roots where the mode needs them.
    pub fn new(server: &Server) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match server.tls {
            TlsMode::Off => return Ok(Self::off()),
            TlsMode::Preferred | TlsMode::Required => Arc::new(AnyCertificate {
                provider: Arc::clone(&provider),
            }),
            TlsMode::VerifyCa => Arc::new(AnyName {
                chain: chain(server, &provider)?,
            }),
            TlsMode::VerifyIdentity => chain(server, &provider)?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self {
            mode: server.tls,
            config: Some(Arc::new(config)),
        })
    }

    /// Never TLS.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            mode: TlsMode::Off,
            config: None,
        }
    }

    /// What to do with a server that offers TLS, or does not: the config to shake hands with, or
    /// `None` to go on in plain text.
    pub(crate) fn choose(
        &self,
        server: &Server,
        offered: bool,
    ) -> Result<Option<Arc<ClientConfig>>, TlsError> {
        match (self.mode, offered) {
            (TlsMode::Off, _) | (TlsMode::Preferred, false) => Ok(None),
            (_, true) => Ok(self.config.clone()),
            (TlsMode::Required | TlsMode::VerifyCa | TlsMode::VerifyIdentity, false) => {
                Err(TlsError::NotOffered(server.name.clone()))
            }
        }
    }
}

/// Shakes hands with a server over a plain stream.
pub(crate) async fn connect(
    stream: Stream,
    config: Arc<ClientConfig>,
    server: &Server,
) -> Result<Stream, TlsError> {
    let failed = |source| TlsError::Handshake {
        server: server.name.clone(),
        source,
    };
    let Stream::Tcp(tcp) = stream else {
        return Err(failed(std::io::Error::other("TLS goes over TCP only")));
    };
    let name = ServerName::try_from(server.host.clone())
        .map_err(|_| TlsError::Name(server.host.clone()))?;
    let shaken = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(failed)?;
    Ok(Stream::Tls(Box::new(shaken.into())))
}

fn chain(
    server: &Server,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let (path, roots) = match &server.tls_ca {
        Some(path) => (path.clone(), read_roots(path)?),
        None => system_roots()?,
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Roots {
            path,
            why: error.to_string(),
        })
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let wrong = |why: String| TlsError::Roots {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        // A bundle may hold one that webpki cannot use; what is left must suffice.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        Err(wrong("it holds no usable certificate".into()))
    } else {
        Ok(roots)
    }
}

/// Where distributions keep the system's roots.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The file that has them.
pub(crate) fn system_authorities() -> PathBuf {
    let path = SYSTEM_ROOTS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    path.unwrap_or_else(|| PathBuf::from("/etc/ssl/certs/ca-certificates.crt"))
}

fn system_roots() -> Result<(PathBuf, RootCertStore), TlsError> {
    let path = system_authorities();
    read_roots(&path).map(|roots| (path, roots))
}

/// `preferred` and `required`: encryption without a check of who it is, as MySQL means them.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

/// `verify-ca`: the chain is checked, the name is not.
#[derive(Debug)]
struct AnyName {
    chain: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let checked = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match checked {
            // The chain is checked before the name, so a wrong name says that the chain is right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
