//! Whose a connection is, told by who stands before the proxy, and told on to a real server that takes it: MariaDB.

use super::mirroring::connect;
use super::proxy::Setup;
use super::{Lab, Primary, Proxy};
use mysql_async::prelude::Queryable;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use understudy::wire::proxied::{Addresses, header_v1, header_v2};

/// A load balancer in front of the proxy that begins each connection with these bytes; its address.
async fn balancer(to: String, header: Vec<u8>) -> String {
    let door = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = door.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = door.accept().await {
            let (to, header) = (to.clone(), header.clone());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await.expect("the proxy");
                server.write_all(&header).await.expect("the header");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

async fn user(address: &str) -> String {
    let mut session = connect(address, "scratch").await;
    let user = session.query_first("SELECT USER()").await.expect("USER()");
    session.disconnect().await.expect("the end");
    user.expect("a user")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_knows_the_client_behind_balancer_and_proxy() {
    let lab = Lab::of(Primary::MariaDb);
    let told = Addresses {
        client: ([192, 0, 2, 1], 56_324).into(),
        met: ([198, 51, 100, 7], 3306).into(),
    };
    for version in ["v1", "v2"] {
        let setup = Setup {
            listen: "proxy_protocol_networks = [\"127.0.0.1\"]",
            primary_more: format!("proxy_protocol = \"{version}\""),
            ..Setup::default()
        };
        let proxy = Proxy::start_with(&lab, &setup);
        for header in [header_v1(Some(told)), header_v2(Some(told))] {
            let address = balancer(proxy.address.clone(), header).await;
            assert_eq!(user(&address).await, "app@192.0.2.1", "{version}");
        }
        // A balancer that speaks for itself.
        let address = balancer(proxy.address.clone(), header_v2(None)).await;
        assert_eq!(user(&address).await, "app@127.0.0.1", "{version}");
        // One that was forgotten to be told of it: closed, counted, and said in the log.
        let address = balancer(proxy.address.clone(), b"\x20\0\0\x01".to_vec()).await;
        let opts = mysql_async::Opts::from_url(&format!("mysql://app:app@{address}/scratch"));
        let refused = mysql_async::Conn::new(opts.expect("an address")).await;
        assert!(refused.is_err());
        assert_eq!(proxy.metric("understudy_proxy_headers_wrong_total"), 1);
        assert!(
            proxy
                .log()
                .contains("is the load balancer set to send one?")
        );
    }
}
