//! Logins through the proxy to MySQL 9.7 and MariaDB: every pair of legs, the five modes of the
//! upstream leg, and clients that never log in.

use super::proxy::Setup;
use super::{Lab, Primary, Proxy, client, tls};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, SslOpts};
use std::io::Read;
use std::net::TcpStream;

/// A connection to the server itself, with all rights.
async fn root(lab: &Lab) -> Conn {
    let opts = OptsBuilder::default()
        .socket(Some(lab.value("LEGACY_ROOT_SOCKET")))
        .user(Some("root"));
    Conn::new(opts).await.expect("root logs in by the socket")
}

/// A user whose password the server has not seen yet: its first login takes caching_sha2's full
/// path.
async fn new_user(lab: &Lab, name: &str) {
    let mut root = root(lab).await;
    for statement in [
        format!("DROP USER IF EXISTS '{name}'@'%'"),
        format!("CREATE USER '{name}'@'%' IDENTIFIED WITH caching_sha2_password BY 'secret'"),
        format!("GRANT SELECT ON scratch.* TO '{name}'@'%'"),
    ] {
        root.query_drop(statement).await.expect("the user is made");
    }
    root.disconnect().await.expect("it closes");
}

fn login(address: &str, name: &str, with_tls: bool) -> Opts {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let certificate = SslOpts::default().with_root_certs(vec![tls().join("ca.pem").into()]);
    OptsBuilder::default()
        .ip_or_hostname(host)
        .tcp_port(port.parse().expect("a port"))
        .user(Some(name))
        .pass(Some("secret"))
        .db_name(Some("scratch"))
        .prefer_socket(false)
        .ssl_opts(with_tls.then_some(certificate))
        .into()
}

fn to_97(lab: &Lab, primary_tls: &'static str, primary_more: String) -> Proxy {
    let setup = Setup {
        primary: Some(lab.legacy()),
        client_tls: true,
        primary_tls,
        primary_more,
        mirror: "reads = false\nwrites = \"off\"",
        ..Setup::default()
    };
    Proxy::start_with(lab, &setup)
}

#[tokio::test]
async fn a_full_login_needs_equal_legs_and_the_refusal_names_the_remedy() {
    let lab = Lab::of(Primary::MySql97);
    for (client_tls, primary_tls, remedy) in [
        (true, "required", None),
        (false, "off", None), // by the server's RSA key
        (true, "off", Some("set tls = \"required\" for 'legacy'")),
        (false, "required", Some("connect with TLS")),
    ] {
        let name = format!("full_{client_tls}_{primary_tls}");
        new_user(&lab, &name).await;
        let proxy = to_97(&lab, primary_tls, String::new());
        let opts = login(&proxy.address, &name, client_tls);
        let first = Conn::new(opts.clone()).await;
        if let Some(remedy) = remedy {
            match first {
                Err(Error::Server(error)) => {
                    assert!(
                        error.code == 3159 && error.message.contains(remedy),
                        "{name}: {error}"
                    );
                }
                other => panic!("{name}: {other:?}"),
            }
            // The remedy, once; after that the server knows the password, and the fast path
            // goes over mixed legs as well.
            let direct = login(&lab.legacy(), &name, false);
            let direct = Conn::new(direct).await.expect("a direct login, by RSA");
            direct.disconnect().await.expect("it closes");
        } else {
            first.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let mut second = Conn::new(opts)
            .await
            .unwrap_or_else(|error| panic!("{name}, by the fast path: {error}"));
        let one: Option<i32> = second.query_first("SELECT 1").await.expect("an answer");
        assert_eq!(one, Some(1), "{name}");
    }
}

/// Whether the leg to the primary is encrypted, as the primary says.
async fn cipher(proxy: &Proxy) -> Result<String, String> {
    let opts = client(&proxy.address, "scratch");
    let mut app = Conn::new(opts).await.map_err(|error| error.to_string())?;
    let row: Option<(String, String)> = app
        .query_first("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        .await
        .map_err(|error| error.to_string())?;
    Ok(row.map(|(_, cipher)| cipher).unwrap_or_default())
}

#[tokio::test]
async fn the_five_modes_of_the_leg_to_the_primary_mean_what_they_say() {
    let lab = Lab::of(Primary::MySql97);
    // So that the fast path serves whatever the legs are.
    let warm = OptsBuilder::from_opts(login(&lab.legacy(), "app", false)).pass(Some("app"));
    Conn::new(warm).await.expect("a direct login");
    let own = format!("tls_ca = \"{}\"", lab.value("LEGACY_TLS_CA"));
    let foreign = format!("tls_ca = \"{}\"", tls().join("ca.pem").display());
    for (mode, more, encrypted) in [
        ("off", String::new(), Some(false)),
        ("preferred", String::new(), Some(true)),
        ("required", String::new(), Some(true)),
        ("verify-ca", own.clone(), Some(true)),
        ("verify-ca", foreign, None),
        // The server's certificate names no host.
        ("verify-identity", own, None),
    ] {
        let setup = Setup {
            primary: Some(lab.legacy()),
            primary_tls: mode,
            primary_more: more.clone(),
            mirror: "reads = false\nwrites = \"off\"",
            ..Setup::default()
        };
        let proxy = Proxy::start_unready(&lab, &setup);
        match (cipher(&proxy).await, encrypted) {
            (Ok(cipher), Some(encrypted)) => {
                assert_eq!(!cipher.is_empty(), encrypted, "{mode} {more}: {cipher}");
            }
            (Err(error), None) => assert!(error.contains("2026"), "{mode} {more}: {error}"),
            (other, _) => panic!("{mode} {more}: {other:?}"),
        }
    }
}

async fn aborted_connects(root: &mut Conn) -> u64 {
    let row: Option<(String, u64)> = root
        .query_first("SHOW GLOBAL STATUS LIKE 'Aborted_connects'")
        .await
        .expect("a status");
    row.expect("a status").1
}

/// Connects, reads the beginning of the greeting, and leaves.
fn probe(address: &str) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let mut some = [0; 4];
    stream.read_exact(&mut some).expect("a greeting");
}

#[tokio::test]
async fn probes_do_not_count_against_the_proxy_at_the_primary() {
    let lab = Lab::of(Primary::MariaDb);
    let setup = Setup {
        primary: Some(lab.legacy()),
        mirror: "reads = false\nwrites = \"off\"",
        ..Setup::default()
    };
    let proxy = Proxy::start_with(&lab, &setup);
    let mut root = root(&lab).await;
    let before = aborted_connects(&mut root).await;
    for _ in 0..60 {
        probe(&proxy.address);
    }
    let mut tries = 0;
    while proxy.metric("understudy_probes_finished_total") < 60 {
        tries += 1;
        assert!(tries < 600, "not all 60 are finished");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(aborted_connects(&mut root).await, before);
    // Without the proxy they would have counted.
    probe(&lab.legacy());
    while aborted_connects(&mut root).await == before {
        tries += 1;
        assert!(tries < 1200, "a probe of its own counts");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
