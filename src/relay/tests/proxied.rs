//! Clients behind a load balancer that says whose connection it is, and servers that are told.

use super::world::*;
use crate::config::ProxyProtocol;
use crate::tee::Handed;
use crate::wire::proxied::{Addresses, header_v1, header_v2};
use std::time::Duration;

fn behind_balancers(announced: ProxyProtocol) -> World {
    World::new(Setting {
        balancers: vec!["127.0.0.0/8".parse().unwrap()],
        announced,
        ..Setting::default()
    })
}

fn told() -> Addresses {
    Addresses {
        client: ([192, 0, 2, 1], 56_324).into(),
        met: ([198, 51, 100, 7], 3306).into(),
    }
}

/// Logs in between both ends, and asks for something.
async fn works(world: &mut World, client: &mut End, server: &mut End) -> Option<Addresses> {
    server.say(0, &greeting(SERVER)).await;
    client.hear().await;
    client.say(1, &login(CLIENT)).await;
    server.hear().await;
    server.say(2, &ok(2)).await;
    client.hear().await;
    client.say(0, b"\x0e").await;
    server.hear().await;
    server.say(1, &ok(2)).await;
    client.hear().await;
    match world.receiver.recv().await {
        Some(Handed::Exchange(it)) => it.facts.client.as_deref().copied(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn whose_a_connection_is_goes_on_to_the_server_in_either_version() {
    for (announced, expected) in [
        (ProxyProtocol::V1, header_v1(Some(told()))),
        (ProxyProtocol::V2, header_v2(Some(told()))),
    ] {
        let world = &mut behind_balancers(announced);
        let (mut client, _) = world.knock();
        // However it is cut.
        let header = header_v2(Some(told()));
        let (head, tail) = header.split_at(13);
        client.send(head).await;
        assert!(client.is_silent().await);
        client.send(tail).await;
        let mut server = world.server().await;
        server.expect(&expected).await;
        let known = works(world, &mut client, &mut server).await;
        assert_eq!(
            known,
            Some(told()),
            "it is told again where the session moves"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_speaks_for_itself_is_the_client() {
    let world = &mut behind_balancers(ProxyProtocol::V2);
    let (mut client, _) = world.knock();
    client.send(&header_v1(None)).await;
    let mut server = world.server().await;
    let itself = ([127, 0, 0, 1], 9).into();
    let ends = Addresses {
        client: itself,
        met: itself,
    };
    server.expect(&header_v2(Some(ends))).await;
    works(world, &mut client, &mut server).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_header_is_told_nothing() {
    let world = &mut behind_balancers(ProxyProtocol::Off);
    let (mut client, _) = world.knock();
    client.send(&header_v2(Some(told()))).await;
    let mut server = world.server().await;
    assert_eq!(works(world, &mut client, &mut server).await, None);
}

#[tokio::test(start_paused = true)]
async fn without_its_header_a_connection_is_closed_and_the_server_is_not_troubled() {
    let world = &mut behind_balancers(ProxyProtocol::V2);
    for (nth, bytes) in [&login(CLIENT)[..], b"PROXY nonsense\r\n", b"PROXY TCP4 1.2"]
        .into_iter()
        .enumerate()
    {
        let (mut client, serving) = world.knock();
        client.send(bytes).await;
        assert!(client.rest().await.is_empty());
        serving.await.unwrap();
        let wrong = world.relay.counters().proxy_headers_wrong.value();
        assert_eq!(wrong, nth as u64 + 1);
    }
    // Who only looks whether somebody listens, and who says nothing.
    let (client, serving) = world.knock();
    drop(client);
    serving.await.unwrap();
    let (mut client, serving) = world.knock();
    let began = tokio::time::Instant::now();
    assert!(client.rest().await.is_empty());
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    serving.await.unwrap();
    let counters = world.relay.counters();
    assert_eq!(counters.proxy_headers_wrong.value(), 4);
    assert_eq!(counters.probes.value(), 1);
    assert_eq!(world.relay.sessions().open, 0);
}
