//! In and out: the form that takes the token once, the cookie that stands for it afterwards, and the way out.

use super::form::{Sent, cookie, token};
use super::seats::{LIFE, Visitor};
use super::trouble::{Trouble, document, plain};
use super::{Page, secured};
use crate::admin::Parts;
use crate::admin::access::guessed;
use crate::admin::answer::Refusal;
use crate::admin::audit::{Peer, Slip};
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

/// The cookie's name. Cookies of one host are shared by its ports, and several understudies may run there.
pub(in crate::admin) fn cookie_name(port: u16) -> String {
    format!("understudy_{port}")
}

/// Where to afterwards.
#[derive(Debug, Deserialize)]
pub(super) struct Onward {
    to: Option<String>,
}

impl Onward {
    /// A path of the page's own, whatever was asked for.
    fn path(self) -> String {
        let own = |to: &String| {
            let is_path = to.starts_with("/ui/") && !to.contains(['\\', '\r', '\n']);
            is_path && !to.starts_with("/ui/login")
        };
        self.to.filter(own).unwrap_or_else(|| "/ui/".to_owned())
    }
}

/// The form.
pub(super) async fn view(
    State(parts): State<Parts>,
    Extension(visitor): Extension<Visitor>,
    Query(onward): Query<Onward>,
) -> Response {
    let to = onward.path();
    if visitor.seated || !parts.config.admin.wants_token() {
        return Redirect::to(&to).into_response();
    }
    asked(&visitor, &to, None).into_response()
}

fn asked(visitor: &Visitor, to: &str, wrong: Option<&str>) -> Markup {
    let content = html! {
        h1 { "understudy" }
        @if let Some(wrong) = wrong {
            p class="problem" role="alert" id="wrong" { (wrong) }
        }
        form method="post" action="/ui/login" class="stack" {
            (token(visitor))
            input type="hidden" name="to" value=(to);
            // For password managers, which want a name beside a secret; whose it is the token says.
            input type="text" name="username" value="operator" autocomplete="username" hidden;
            label for="token" { "Token" }
            input type="password" id="token" name="token" required autofocus autocomplete="current-password"
                aria-describedby=[wrong.map(|_| "wrong")];
            p class="hint" { "Your own, or the content of " code { "admin.token_file" } " on the proxy's host." }
            button class="main" type="submit" { "Log in" }
        }
    };
    plain("Log in", &content)
}

/// Takes the token, and gives a seat.
pub(super) async fn login(
    State(parts): State<Parts>,
    Extension(page): Extension<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Extension(slip): Extension<Slip>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Trouble> {
    let to = Onward {
        to: sent.text("to"),
    }
    .path();
    if !parts.config.admin.wants_token() {
        return Ok(Redirect::to(&to).into_response());
    }
    let given = sent.text("token").unwrap_or_default();
    let whose = page.seats.holders().whose(given.as_bytes());
    let Some((caller, by)) = whose.and_then(|caller| caller.token().map(|by| (caller, by))) else {
        guessed(Some(peer.0)).await;
        let again = asked(&visitor, &to, Some("The token is wrong."));
        return Ok((StatusCode::UNAUTHORIZED, again).into_response());
    };
    slip.is_of(&caller);
    let id = page.seats.take(by).ok_or_else(|| {
        Refusal::unavailable("this machine gives no random bytes, so nobody can log in")
    })?;
    tracing::info!(
        who = &**caller.name(),
        role = caller.role().name(),
        "somebody logged in to the page"
    );
    Ok(seated(&parts, &headers, &id, LIFE.as_secs(), &to))
}

/// Gives the seat back.
pub(super) async fn logout(
    State(parts): State<Parts>,
    Extension(page): Extension<Arc<Page>>,
    headers: HeaderMap,
    _sent: Sent,
) -> Response {
    if let Some(id) = cookie(&headers, &cookie_name(parts.config.admin.address.port())) {
        page.seats.leave(&id);
    }
    seated(&parts, &headers, "", 0, "/ui/login")
}

/// Sets the cookie, or with a life of 0 takes it away, and leads on.
fn seated(parts: &Parts, headers: &HeaderMap, id: &str, life_s: u64, to: &str) -> Response {
    let name = cookie_name(parts.config.admin.address.port());
    let origin = headers.get(header::ORIGIN).and_then(|it| it.to_str().ok());
    // Where a browser sees HTTPS and we speak plain HTTP, something before us speaks that.
    let before = origin.is_some_and(|origin| origin.starts_with("https://"));
    let secure = if before || parts.tls.is_some() {
        "; Secure"
    } else {
        ""
    };
    let cookie =
        format!("{name}={id}; Path=/ui; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}");
    let mut response = Redirect::to(to).into_response();
    if let Ok(value) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// What somebody is told who has no seat yet: where to log in.
pub(in crate::admin) async fn login_first(uri: &Uri) -> Response {
    let asked = uri.path_and_query().map_or("/ui/", |asked| asked.as_str());
    let to: String = form_urlencoded::byte_serialize(asked.as_bytes()).collect();
    secured(Redirect::to(&format!("/ui/login?to={to}")).into_response()).await
}

/// Answers a link on another site's page. With such a request a browser sends no `SameSite=Strict` cookie,
/// and it must be told nothing; a document of our own that asks once more is another matter.
pub(in crate::admin) async fn again(uri: &Uri) -> Response {
    let here = uri.path_and_query().map_or("/ui/", |asked| asked.as_str());
    // With its address: to load the same document anew would count as the other site's link once more.
    let head = html! { meta http-equiv="refresh" content={"0;url=" (here)}; };
    let content = html! {
        main class="alone" id="content" { h1 { "understudy" } p { a href=(here) { "Go on" } } }
    };
    secured(document("One moment", &head, &content).into_response()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_our_own_pages_only() {
        let path = |to: &str| {
            Onward {
                to: Some(to.into()),
            }
            .path()
        };
        assert_eq!(path("/ui/findings?state=open"), "/ui/findings?state=open");
        for away in [
            "//evil.example",
            "https://evil.example",
            "/ui/login",
            "",
            "/api",
            "/ui/\\evil",
        ] {
            assert_eq!(path(away), "/ui/", "{away}");
        }
    }
}
