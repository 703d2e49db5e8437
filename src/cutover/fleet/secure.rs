//! TLS with etcd: who must have signed its certificate, and what it is shown.

use super::FleetError;
use crate::config;
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// The TLS that the config means; without a CA there is no URL with https.
///
/// # Errors
/// A file cannot be read or used, by its key.
pub(super) fn tls(fleet: &config::Fleet) -> Result<TlsConfig, FleetError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    if let Some(ca) = &fleet.tls_ca {
        let roots = all("fleet.tls_ca", ca)?;
        tls = tls.root_certs(RootCerts::new_with_certs(&roots));
    }
    if let Some((cert, key)) = &fleet.tls {
        let chain = all("fleet.tls_cert", cert)?;
        let text = read("fleet.tls_key", key)?;
        let key =
            PrivateKey::from_pem(&text).map_err(|error| wrong("fleet.tls_key", key, &error))?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(tls.build())
}

fn all(key: &str, path: &Path) -> Result<Vec<Certificate<'static>>, FleetError> {
    certificates(path).map_err(|why| wrong(key, path, &why))
}

/// The certificates in a PEM file, as `ureq` takes them; one at least.
///
/// # Errors
/// It cannot be read, or has none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(one) = item.map_err(|error| error.to_string())? {
            found.push(one);
        }
    }
    if found.is_empty() {
        return Err("it has no certificate (PEM)".to_owned());
    }
    Ok(found)
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, FleetError> {
    std::fs::read(path).map_err(|error| wrong(key, path, &error))
}

fn wrong(key: &str, path: &Path, why: &dyn std::fmt::Display) -> FleetError {
    FleetError::No(format!("{key} {}: {why}", path.display()))
}
