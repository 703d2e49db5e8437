//! Who may ask, and who may change something. Without a token: callers of a loopback address, and no web page by
//! way of them. With one: who sends it, or, for the operators' page alone, who has logged in there: a cookie opens
//! nothing else. A viewer's token opens what only asks.

use super::answer::Refusal;
use super::audit::{Peer, Slip};
use super::holders::Holders;
use super::page::{self, Page, Trouble, Visitor};
use super::places::LetIn;
use super::who::Caller;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The rule.
#[derive(Debug)]
pub(super) struct Access {
    holders: Arc<Holders>,
    address: SocketAddr,
}

/// Paths that a probe may ask without the token.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// What becomes of a request for the page.
#[derive(Debug)]
enum Admitted {
    /// It is answered.
    As(Visitor),
    /// It must log in first.
    LoginFirst,
    /// It comes from a link elsewhere, and must come again by itself.
    Again,
    Refused(Refusal),
}

impl Access {
    /// Of an admin at this address.
    pub(super) const fn new(holders: Arc<Holders>, address: SocketAddr) -> Self {
        Self { holders, address }
    }

    /// Who asks for `path` with these headers; nobody for a probe.
    fn judge(&self, path: &str, headers: &HeaderMap) -> Result<Option<Caller>, Refusal> {
        self.not_from_a_page(headers)?;
        if self.holders.are_all() {
            self.local(headers)?;
            return Ok(Some(Caller::anybody()));
        }
        if OPEN.contains(&path) {
            return Ok(None);
        }
        self.bearer(headers).map(Some)
    }

    /// What becomes of a request for the page.
    fn admit(&self, request: &Request, page: &Page) -> Admitted {
        if is_link(request.method(), request.headers()) {
            return Admitted::Again;
        }
        let path = request.uri().path();
        match self.visitor(request, page) {
            Ok(Some(visitor)) => Admitted::As(visitor),
            Ok(None) if page::is_open(path) => Admitted::As(page.seats.stranger()),
            // A stream of events is asked for by a script, which cannot log in.
            Ok(None) if page::is_stream(path) => {
                Admitted::Refused(Refusal::unauthorized("this needs a login"))
            }
            Ok(None) => Admitted::LoginFirst,
            Err(refusal) => Admitted::Refused(refusal),
        }
    }

    /// Who asks for the page; nobody who has not logged in.
    fn visitor(&self, request: &Request, page: &Page) -> Result<Option<Visitor>, Refusal> {
        let headers = request.headers();
        self.not_from_a_page(headers)?;
        if self.holders.are_all() {
            self.local(headers)?;
            return Ok(Some(page.seats.visitor(Caller::anybody())));
        }
        if headers.contains_key(header::AUTHORIZATION) {
            return Ok(Some(page.seats.visitor(self.bearer(headers)?)));
        }
        let seat = page::seat_of(headers, self.address.port());
        Ok(seat.and_then(|id| page.seats.at(&id)))
    }

    /// A browser says where a request comes from: another site's page may not ask.
    fn not_from_a_page(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let said = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let crossed = matches!(said("sec-fetch-site"), Some("cross-site" | "same-site"));
        let host = said("host").unwrap_or_default();
        // Where something before it speaks TLS, a browser knows it by https.
        let own = |origin: &str| {
            ["http://", "https://"]
                .iter()
                .any(|scheme| !host.is_empty() && origin.strip_prefix(scheme) == Some(host))
        };
        let foreign = headers.contains_key(header::ORIGIN) && !said("origin").is_some_and(own);
        if crossed || foreign {
            return Err(Refusal::forbidden(
                "requests from another site's page are refused",
            ));
        }
        Ok(())
    }

    /// Against names that a web page had resolved to 127.0.0.1: the Host must be ours.
    fn local(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let name = host_name(host);
        let loopback = name.eq_ignore_ascii_case("localhost")
            || name
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback() || ip == self.address.ip());
        if loopback {
            return Ok(());
        }
        Err(Refusal::forbidden(
            "without a token only http://127.0.0.1 and http://localhost are answered; set admin.token_file to be asked by another name",
        ))
    }

    /// Whose token a request brings.
    fn bearer(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let given = headers
            .get(header::AUTHORIZATION)
            .map(axum::http::HeaderValue::as_bytes)
            .unwrap_or_default();
        let given = given
            .split_at_checked("bearer ".len())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, given)| given);
        match given.map(|given| self.holders.whose(given)) {
            Some(Some(caller)) => Ok(caller),
            Some(None) => Err(Refusal::unauthorized("the token is wrong")),
            None => Err(Refusal::unauthorized(
                "this needs `authorization: Bearer TOKEN`",
            )),
        }
    }
}

/// Whether somebody followed a link on another site's page to here: a document that is asked for by itself,
/// which that page will not see.
fn is_link(method: &Method, headers: &HeaderMap) -> bool {
    let says = |name, word| headers.get(name).is_some_and(|value| value == word);
    let crossed = says("sec-fetch-site", "cross-site") || says("sec-fetch-site", "same-site");
    let navigates = says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document");
    method == Method::GET && crossed && navigates
}

/// `name` of `name`, `name:port`, `[v6]`, `[v6]:port`.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Takes note of who asks, who may now change what the request would change.
fn let_in(request: &mut Request, caller: &Caller) -> Result<(), Refusal> {
    if let Some(slip) = request.extensions().get::<Slip>() {
        slip.is_of(caller);
    }
    // Whom anybody may be has proved nothing: a stranger who is shown the form to log in.
    if let Some(place) = request.extensions().get::<LetIn>()
        && !caller.name().is_empty()
    {
        // A viewer who does not keep it is answered all the same, as long as nobody else comes.
        let _keeps_it = place.set(caller.role());
    }
    let only_asks = request.method().is_safe() || page::is_way_in_or_out(request.uri().path());
    if !only_asks {
        caller.may_change()?;
    }
    request.extensions_mut().insert(caller.clone());
    Ok(())
}

/// The rule as a layer around every route.
pub(super) async fn check(
    State((access, page)): State<(Arc<Access>, Arc<Page>)>,
    request: Request,
    next: Next,
) -> Response {
    if page::is_page(request.uri().path()) {
        page_asked(&access, &page, request, next).await
    } else {
        api_asked(&access, request, next).await
    }
}

async fn page_asked(access: &Access, page: &Page, mut request: Request, next: Next) -> Response {
    let refusal = match access.admit(&request, page) {
        Admitted::As(visitor) => match let_in(&mut request, &visitor.caller) {
            Ok(()) => {
                request.extensions_mut().insert(visitor);
                return next.run(request).await;
            }
            Err(refusal) => refusal,
        },
        Admitted::LoginFirst => return page::login_first(request.uri()).await,
        Admitted::Again => return page::again(request.uri()).await,
        Admitted::Refused(refusal) => refusal,
    };
    let guess = guess(&request, &refusal);
    if let Some(from) = guess {
        guessed(from).await;
    }
    page::secured(Trouble::from(refusal).into_response()).await
}

async fn api_asked(access: &Access, mut request: Request, next: Next) -> Response {
    let caller = access.judge(request.uri().path(), request.headers());
    let passes = caller.and_then(|caller| match caller {
        Some(caller) => let_in(&mut request, &caller),
        // The probes ask nothing of who asks.
        None => Ok(()),
    });
    let Err(refusal) = passes else {
        return next.run(request).await;
    };
    let guess = guess(&request, &refusal);
    if let Some(from) = guess {
        guessed(from).await;
    }
    refusal.into_response()
}

/// Whoever was refused with a token in hand has guessed; from where.
fn guess(request: &Request, refusal: &Refusal) -> Option<Option<SocketAddr>> {
    let has_one = request.headers().contains_key(header::AUTHORIZATION);
    let peer = request.extensions().get::<Peer>();
    (refusal.status() == WRONG_TOKEN && has_one).then(|| peer.map(|peer| peer.0))
}

const WRONG_TOKEN: u16 = 401;

/// Between two guesses that one connection may make.
const GUESS: Duration = Duration::from_secs(1);

/// A token was wrong, at whichever door: it is said, and whoever tries more of them waits. The right one never does.
pub(super) async fn guessed(from: Option<SocketAddr>) {
    let from = from.map(tracing::field::display);
    tracing::warn!(from, "somebody gave the admin a wrong token");
    tokio::time::sleep(GUESS).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use axum::http::{HeaderName, HeaderValue};

    fn judged(token: Option<&str>, path: &str, headers: &[(&'static str, &'static str)]) -> u16 {
        let admin = config::Admin {
            address: SocketAddr::from(([127, 0, 0, 1], 8306)),
            token: token.map(|token| config::Secret(token.to_owned())),
            tokens_file: None,
            tls: None,
            console: None,
            console_rows: 1.into(),
            console_timeout: std::time::Duration::from_secs(1).into(),
        };
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        Access::new(Holders::new(&admin, &Arc::default()), admin.address)
            .judge(path, &headers)
            .map_or_else(|refusal| refusal.status(), |_| 200)
    }

    #[test]
    fn without_a_token_only_loopback_names_are_answered() {
        for (host, status) in [
            ("127.0.0.1:8306", 200),
            ("127.0.0.1", 200),
            ("localhost:8306", 200),
            ("LOCALHOST", 200),
            ("[::1]:8306", 200),
            ("evil.example:8306", 403),
            ("127.0.0.1.evil.example", 403),
            ("", 403),
        ] {
            assert_eq!(
                judged(None, "/api/v1/status", &[("host", host)]),
                status,
                "{host}"
            );
        }
        assert_eq!(judged(None, "/api/v1/status", &[]), 403);
    }

    #[test]
    fn with_a_token_every_path_but_the_probes_needs_it() {
        let host = ("host", "proxy.example");
        for (path, headers, status) in [
            ("/api/v1/status", vec![host], 401),
            (
                "/api/v1/status",
                vec![host, ("authorization", "Bearer hush")],
                200,
            ),
            (
                "/api/v1/status",
                vec![host, ("authorization", "bearer hush")],
                200,
            ),
            (
                "/api/v1/status",
                vec![host, ("authorization", "Bearer hus")],
                401,
            ),
            (
                "/api/v1/status",
                vec![host, ("authorization", "Bearer hush2")],
                401,
            ),
            (
                "/api/v1/status",
                vec![host, ("authorization", "Basic hush")],
                401,
            ),
            ("/api/v1/status", vec![host, ("authorization", "Bea")], 401),
            ("/metrics", vec![host], 401),
            ("/nothing", vec![host], 401),
            ("/healthz", vec![host], 200),
            ("/readyz", vec![host], 200),
        ] {
            assert_eq!(
                judged(Some("hush"), path, &headers),
                status,
                "{path} {headers:?}"
            );
        }
    }

    #[test]
    fn another_sites_page_may_not_ask() {
        let host = ("host", "127.0.0.1:8306");
        for (headers, status) in [
            (vec![host, ("origin", "http://evil.example")], 403),
            (vec![host, ("origin", "null")], 403),
            (vec![host, ("sec-fetch-site", "cross-site")], 403),
            (
                vec![
                    host,
                    ("origin", "http://127.0.0.1:8306"),
                    ("sec-fetch-site", "same-origin"),
                ],
                200,
            ),
            (vec![host, ("origin", "https://127.0.0.1:8306")], 200),
            (vec![host, ("origin", "https://127.0.0.1")], 403),
            (vec![host, ("origin", "ftp://127.0.0.1:8306")], 403),
            (vec![host, ("sec-fetch-site", "none")], 200),
        ] {
            assert_eq!(
                judged(None, "/api/v1/mirror", &headers),
                status,
                "{headers:?}"
            );
        }
    }
}
