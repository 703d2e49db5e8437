//! Asks a running understudy over its HTTP API.

use super::{Door, Remote};
use crate::connect::system_authorities;
use crate::cutover::fleet::certificates;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{RootCerts, TlsConfig};

/// An answer longer than this is not read: no list that the API gives comes near it.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is none.
    #[error(
        "--admin {0}: write http://HOST:PORT, such as http://127.0.0.1:8306, or https://HOST:PORT where [admin] has tls_cert"
    )]
    Url(String),
    /// The token's file cannot be read.
    #[error("--token-file {0}: {1}")]
    TokenFile(PathBuf, std::io::Error),
    /// Who signs the certificate cannot be read.
    #[error("--admin-ca {0}: {1}; name a file of certificates (PEM)")]
    Authorities(PathBuf, String),
    /// Nobody answered.
    #[error(
        "{0} does not answer: {1}; is `understudy serve` running, and is --admin its [admin] address?"
    )]
    Unreachable(String, String),
    /// The API refused.
    #[error("{message}{}", if *.status == 401 { "; give the admin's token with --token-file FILE or in UNDERSTUDY_TOKEN" } else { "" })]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the API said.
        message: String,
    },
    /// Something answered, but no understudy.
    #[error("what answers at {0} is no understudy's admin: {1}")]
    Stranger(String, String),
}

impl ClientError {
    /// Whether the command line is at fault.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Url(_) | Self::TokenFile(..) | Self::Authorities(..) => true,
            Self::Refused { status, .. } => *status == 400,
            Self::Unreachable(..) | Self::Stranger(..) => false,
        }
    }
}

/// The API of one running understudy.
#[derive(Debug)]
pub struct Client {
    url: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

impl Client {
    pub(super) fn new(remote: &Remote) -> Result<Self, ClientError> {
        Self::behind(&remote.door)
    }

    /// The API behind this door.
    pub(super) fn behind(door: &Door) -> Result<Self, ClientError> {
        let token = match &door.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ClientError::TokenFile(path.clone(), error))?;
                Some(text.trim().to_owned())
            }
            None => std::env::var("UNDERSTUDY_TOKEN")
                .ok()
                .filter(|token| !token.is_empty()),
        };
        Self::at(&door.admin, token.as_deref(), door.admin_ca.as_deref())
    }

    /// The API at this URL; for https, `authorities` (PEM, or else the system's) must have signed its certificate.
    ///
    /// # Errors
    /// The URL is none that can be asked, or the file of authorities cannot be read.
    pub fn at(
        url: &str,
        token: Option<&str>,
        authorities: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let whole = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let secure = whole.strip_prefix("https://");
        let host = secure
            .or_else(|| whole.strip_prefix("http://"))
            .map(|rest| rest.trim_end_matches('/'));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', ' ', '?', '#'])) {
            return Err(ClientError::Url(url.to_owned()));
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .tls_config(match secure {
                Some(_) => tls(authorities)?,
                None => TlsConfig::default(),
            })
            .proxy(None)
            .max_redirects(0)
            .build()
            .new_agent();
        let authorization = token.map(|token| format!("Bearer {token}"));
        Ok(Self {
            url: whole.trim_end_matches('/').to_owned(),
            authorization,
            agent,
        })
    }

    /// GET a path with its query.
    ///
    /// # Errors
    /// Nobody answers, the API refuses, or what answers is no understudy.
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ClientError> {
        self.json(
            self.asking(self.agent.get(self.at_path(path)), query)
                .call(),
        )
    }

    /// GET a path that says no with a body of its own: the HTTP status, and the answer whatever it is.
    ///
    /// # Errors
    /// Nobody answers, or what answers is no understudy.
    pub fn look(&self, path: &str) -> Result<(u16, Value), ClientError> {
        let request = self.asking(self.agent.get(self.at_path(path)), &[]);
        self.status_and_json(request.call())
    }

    /// GET a document that is no JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn text(&self, path: &str, query: &[(&str, String)]) -> Result<String, ClientError> {
        let asked = self
            .asking(self.agent.get(self.at_path(path)), query)
            .call();
        Ok(self.document(asked)?.body)
    }

    /// GET an answer that comes line by line and has no end of its own.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(super) fn lines(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<impl BufRead + Send + use<>, ClientError> {
        let request = self.asking(self.agent.get(self.at_path(path)), query);
        let request = request
            .config()
            .timeout_global(None)
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .build();
        let answer = request.call();
        match answer {
            Ok(answer) if answer.status().is_success() => {
                Ok(BufReader::new(answer.into_body().into_reader()))
            }
            // Whatever it says, it says at once.
            other => match self.document(other) {
                Err(error) => Err(error),
                Ok(_) => Err(self.stranger("it gave no lines".to_owned())),
            },
        }
    }

    /// GET a list as CSV, and the cursor of what did not fit.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn sheet(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<(String, Option<String>), ClientError> {
        let request = self.asking(self.agent.get(self.at_path(path)), query);
        let found = self.document(request.query("format", "csv").call())?;
        if found.is_csv {
            return Ok((found.body, found.next));
        }
        Err(self.stranger("it gave something else in place of CSV".to_owned()))
    }

    /// PATCH a path with a JSON body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let request = self.asking(self.agent.patch(self.at_path(path)), &[]);
        self.json(request.send_json(body))
    }

    /// POST a JSON body to a path.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let request = self.asking(self.agent.post(self.at_path(path)), &[]);
        self.json(request.send_json(body))
    }

    /// POST a JSON body to a path where a refusal has a body of its own: the HTTP status, and the answer
    /// whatever it is.
    ///
    /// # Errors
    /// Nobody answers, or what answers is no understudy.
    pub fn ask(&self, path: &str, body: &Value) -> Result<(u16, Value), ClientError> {
        let request = self.asking(self.agent.post(self.at_path(path)), &[]);
        self.status_and_json(request.send_json(body))
    }

    /// DELETE a path with its query.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn delete(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ClientError> {
        self.json(
            self.asking(self.agent.delete(self.at_path(path)), query)
                .call(),
        )
    }

    fn at_path(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn asking<B>(
        &self,
        mut request: ureq::RequestBuilder<B>,
        query: &[(&str, String)],
    ) -> ureq::RequestBuilder<B> {
        for (name, value) in query {
            request = request.query(*name, value);
        }
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    fn json(&self, answer: Sent) -> Result<Value, ClientError> {
        match self.status_and_json(answer)? {
            (200..300, body) => Ok(body),
            (status, body) => Err(self.refused(status, &body)),
        }
    }

    fn status_and_json(&self, answer: Sent) -> Result<(u16, Value), ClientError> {
        let found = self.read(answer)?;
        let body = serde_json::from_str(&found.body)
            .map_err(|error| self.stranger(format!("HTTP {}, {error}", found.status)))?;
        Ok((found.status, body))
    }

    fn document(&self, answer: Sent) -> Result<Found, ClientError> {
        let found = self.read(answer)?;
        if found.is_good() {
            return Ok(found);
        }
        let body = serde_json::from_str(&found.body).unwrap_or(Value::Null);
        Err(self.refused(found.status, &body))
    }

    fn read(&self, answer: Sent) -> Result<Found, ClientError> {
        let mut answer = answer.map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => ClientError::Url(self.url.clone()),
            other => ClientError::Unreachable(self.url.clone(), other.to_string()),
        })?;
        let status = answer.status().as_u16();
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let is_csv = header("content-type").is_some_and(|kind| kind.starts_with("text/csv"));
        let next = header("x-understudy-next");
        let body = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| self.stranger(format!("HTTP {status}, {error}")))?;
        Ok(Found {
            status,
            is_csv,
            next,
            body,
        })
    }

    /// The error that an answer with this status is.
    pub(super) fn refused(&self, status: u16, body: &Value) -> ClientError {
        match body.pointer("/error/message").and_then(Value::as_str) {
            Some(message) => ClientError::Refused {
                status,
                message: message.to_owned(),
            },
            None => self.stranger(format!("HTTP {status}")),
        }
    }

    fn stranger(&self, what: String) -> ClientError {
        ClientError::Stranger(self.url.clone(), what)
    }
}

/// TLS with who has a certificate that these have signed.
fn tls(authorities: Option<&Path>) -> Result<TlsConfig, ClientError> {
    let path = authorities.map_or_else(system_authorities, Path::to_owned);
    let roots = certificates(&path).map_err(|why| ClientError::Authorities(path, why))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::new_with_certs(&roots))
        .build())
}

/// What became of a request.
type Sent = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// An answer, read.
#[derive(Debug)]
struct Found {
    status: u16,
    is_csv: bool,
    /// The cursor of what did not fit.
    next: Option<String>,
    body: String,
}

impl Found {
    fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_understood() {
        for (url, meant) in [
            ("127.0.0.1:8306", "http://127.0.0.1:8306"),
            ("http://localhost:1/", "http://localhost:1"),
        ] {
            assert_eq!(Client::at(url, None, None).expect(url).url, meant);
        }
    }

    #[test]
    fn a_wrong_url_is_a_usage_error() {
        for url in [
            "",
            "https://",
            "ftp://a:1",
            "http://",
            "http://a:1/b",
            "http://a b",
        ] {
            let wrong = Client::at(url, None, None);
            assert!(wrong.expect_err(url).is_usage(), "{url}");
        }
        let nowhere = Some(Path::new("/nowhere/at-all.pem"));
        let error = Client::at("https://a:1", None, nowhere).expect_err("no file");
        assert!(
            error.is_usage() && error.to_string().contains("--admin-ca"),
            "{error}"
        );
        // Without TLS nobody looks for it.
        assert!(Client::at("http://a:1", None, nowhere).is_ok());
    }
}
