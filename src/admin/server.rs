//! HTTP/1.1, over TLS where the config says so, with bounds: connections, header size, and time for each step.

use super::audit::{Clerk, Peer};
use super::holders::Holders;
use super::page::{self, Page};
use super::places::{CONNECTIONS_MAX, LetIn, Place, Places};
use super::streams::Streams;
use super::tls::Tls;
use super::{Parts, console, readiness, router};
use crate::connect::Stream;
use crate::task;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A request's head must arrive within this time, and an idle connection is closed after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection's whole life: what reads or writes more slowly than this allows is cut, unless it is given an answer
/// without an end.
pub(super) const LIFE_MAX: Duration = Duration::from_secs(300);

/// Head and buffers of one connection, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// Time for answers under way once it is told to end.
const DRAIN: Duration = Duration::from_secs(2);

/// Answers at both doors until told to end; the console's may be closed.
pub async fn serve(
    http: TcpListener,
    console: Option<TcpListener>,
    parts: Parts,
    shutdown: CancellationToken,
) {
    let holders = Holders::new(&parts.config.admin, &parts.counters);
    // A task of its own: what breaks there does not reach this door.
    let console = console
        .map(|door| console::serve(door, parts.clone(), Arc::clone(&holders), shutdown.clone()))
        .map(|console| task::spawn("console", console));
    serve_http(http, parts, holders, shutdown).await;
    if let Some(console) = console {
        let _ = tokio::time::timeout(DRAIN, console).await;
    }
}

async fn serve_http(
    listener: TcpListener,
    parts: Parts,
    holders: Arc<Holders>,
    shutdown: CancellationToken,
) {
    let watch = task::spawn(
        "readiness",
        readiness::watch(parts.clone(), shutdown.clone()),
    );
    let tokens = task::spawn("tokens", Arc::clone(&holders).watch(shutdown.clone()));
    let page = Page::new(Arc::clone(&holders));
    let pace = task::spawn(
        "pace",
        page::watch(Arc::clone(&page), parts.clone(), shutdown.clone()),
    );
    let tls = parts.tls.clone();
    let certificate = tls
        .clone()
        .map(|tls| task::spawn("certificate", tls.watch(shutdown.clone())));
    let (clerk, writes) = Clerk::start(parts.ledger.clone(), &parts.counters);
    let turned_away = Arc::clone(&parts.counters.turned_away);
    let places = Places::new("admin", CONNECTIONS_MAX, turned_away);
    let app = router(parts, page, holders, clerk);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                // Where no place is free the stream is dropped, which closes it.
                if let Some(place) = places.take(peer.ip()) {
                    let service = TowerToHyperService::new(app.clone());
                    let came = Came {
                        stream,
                        peer: Peer(peer),
                        tls: tls.clone(),
                    };
                    connections.spawn(connection(came, service, place, shutdown.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the admin cannot accept a connection for now");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    watch.abort();
    pace.abort();
    tokens.abort();
    if let Some(certificate) = certificate {
        certificate.abort();
    }
    drop((app, connections));
    Clerk::end(writes).await;
}

/// Who has connected, and whether TLS is spoken with them.
struct Came {
    stream: TcpStream,
    peer: Peer,
    tls: Option<Arc<Tls>>,
}

async fn connection(
    came: Came,
    service: TowerToHyperService<axum::Router>,
    place: Place,
    shutdown: CancellationToken,
) {
    let Came { stream, peer, tls } = came;
    let opened = async move {
        match tls {
            Some(tls) => tls.accept(stream).await,
            None => Stream::tcp(stream),
        }
    };
    let opened = tokio::select! {
        opened = opened => opened,
        () = shutdown.cancelled() => return,
        () = place.is_lost() => return,
    };
    let stream = match opened {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, peer = %peer.0, "a connection to the admin came to nothing");
            return;
        }
    };
    let streams = Streams::new(shutdown.clone());
    let service = with((streams.clone(), peer, place.let_in().clone()), service);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let life = tokio::time::sleep(LIFE_MAX);
    tokio::pin!(life);
    loop {
        tokio::select! {
            _ = served.as_mut() => return,
            () = place.is_lost() => return,
            () = life.as_mut() => {
                if !streams.go_on() {
                    return;
                }
                life.as_mut().reset(Instant::now() + LIFE_MAX);
            }
            () = shutdown.cancelled() => break,
        }
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}

/// The routes, whose requests know their connection.
fn with(
    (streams, peer, let_in): (Streams, Peer, LetIn),
    routes: TowerToHyperService<axum::Router>,
) -> impl Service<
    Request<Incoming>,
    Response = axum::response::Response,
    Error = Infallible,
    Future: Send,
> + Send {
    service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(streams.clone());
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(let_in.clone());
        routes.call(request)
    })
}
