//! HTTPS: who is served, what a plain asker hears, and a certificate that is renewed.

use super::*;
use crate::cli::Client;
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// A certificate for 127.0.0.1 that vouches for itself, its key beside it.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.renew();
        files
    }

    fn renew(&self) {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("made");
        std::fs::write(self.key(), made.signing_key.serialize_pem()).expect("written");
        std::fs::write(self.chain(), made.cert.pem()).expect("written");
    }

    fn chain(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    fn config(&self) -> String {
        let (chain, key) = (self.chain(), self.key());
        format!("[admin]\ntls_cert = {chain:?}\ntls_key = {key:?}\n")
    }
}

/// What the command line hears of the status.
async fn status(at: SocketAddr, authorities: &Path) -> Result<Value, String> {
    let authorities = authorities.to_owned();
    let asked = move || {
        let client = Client::at(&format!("https://{at}"), None, Some(&authorities));
        let asked = client.and_then(|client| client.get("/api/v1/status", &[]));
        asked.map_err(|error| error.to_string())
    };
    tokio::task::spawn_blocking(asked).await.expect("asked")
}

/// A whole answer over TLS.
async fn answer(at: SocketAddr, authorities: &Path, request: &str) -> String {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let chain = CertificateDer::from_pem_file(authorities).expect("a certificate");
    roots.add(chain).expect("one that can be used");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(at).await.expect("connected");
    let name = ServerName::from(at.ip());
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, tcp).await.expect("shaken");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut told = String::new();
    // It closes without a farewell of TLS's.
    let _end = stream.read_to_string(&mut told).await;
    told
}

#[tokio::test]
async fn https_is_served_and_plain_http_is_told_so() {
    let files = Files::new();
    let door = Door::open(&files.config()).await;
    let told = status(door.at, &files.chain()).await.expect("answered");
    assert_eq!(told["primary"], "legacy");
    let stranger = Files::new();
    let refused = status(door.at, &stranger.chain())
        .await
        .expect_err("another's");
    assert!(refused.contains("does not answer"), "{refused}");
    let (plain, body) = door.get("/api/v1/status").await;
    assert_eq!(plain, 400);
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(message.contains("speaks HTTPS"), "{body}");
    // Bytes of anything else are let go.
    let mut noise = TcpStream::connect(door.at).await.expect("connected");
    noise.write_all(b"\x00\x01\x02").await.expect("sent");
    let mut nothing = Vec::new();
    let _reset = noise.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
    // And nobody else has waited for them.
    assert!(status(door.at, &files.chain()).await.is_ok());
}

#[tokio::test]
async fn over_https_the_cookie_is_for_nothing_else() {
    let files = Files::new();
    let door = Door::open(&format!(
        "{}token = \"hush-hush-hush-hush\"\n",
        files.config()
    ))
    .await;
    let at = door.at;
    let get = format!("GET /ui/login HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    let page = answer(at, &files.chain(), &get).await;
    let (_, rest) = page
        .split_once("name=\"form_token\" value=\"")
        .expect("a form");
    let form = rest.split('"').next().expect("a value");
    let body = format!("form_token={form}&token=hush-hush-hush-hush&to=%2Fui%2F");
    let length = body.len();
    let post = format!(
        "POST /ui/login HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let done = answer(at, &files.chain(), &post).await;
    let cookie = done.lines().find(|line| line.starts_with("set-cookie: "));
    assert!(
        cookie.is_some_and(|cookie| cookie.ends_with("; Secure")),
        "{done}"
    );
}

#[tokio::test]
async fn a_renewed_certificate_serves_the_next_connection() {
    let files = Files::new();
    let door = Door::open(&files.config()).await;
    let old = std::fs::read(files.chain()).expect("read");
    let kept = files.0.path().join("old.pem");
    std::fs::write(&kept, old).expect("written");
    files.renew();
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while status(door.at, &files.chain()).await.is_err() {
        assert!(tokio::time::Instant::now() < end, "it was never taken over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(status(door.at, &kept).await.is_err());
}

#[test]
fn a_certificate_that_cannot_be_used_is_the_configs_fault() {
    let files = Files::new();
    let open = |text: &str| {
        let config = config::Config::parse(text, &[]).expect("sound");
        Tls::open(&config.admin)
            .map(|tls| tls.is_some())
            .map_err(|error| error.to_string())
    };
    assert_eq!(open(""), Ok(false));
    assert_eq!(open(&files.config()), Ok(true));
    std::fs::write(files.key(), "no key").expect("written");
    let said = open(&files.config()).expect_err("no key");
    assert!(
        said.contains("key.pem") && said.contains("admin.tls_key"),
        "{said}"
    );
    let gone = files.config().replace("cert.pem", "gone.pem");
    let said = open(&gone).expect_err("no file");
    assert!(said.contains("gone.pem"), "{said}");
}
