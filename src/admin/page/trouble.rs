//! What is shown where a view cannot be.

use super::assets::{ICON, STYLE};
use crate::admin::answer::Refusal;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

/// A refusal, as a page.
#[derive(Debug)]
pub(in crate::admin) struct Trouble(Refusal);

impl Trouble {
    /// 404.
    pub(super) fn no_such_page(path: &str) -> Self {
        Self(Refusal::not_found(format!("there is no page {path}")))
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let status = status_of(&self.0);
        let title = status.canonical_reason().unwrap_or("Refused");
        let body = plain(
            title,
            &html! {
                h1 { (title) }
                p class="problem" role="alert" { (self.0.message()) }
                p { a href="/ui/" { "To the overview" } }
            },
        );
        (status, body).into_response()
    }
}

/// The status of a refusal.
pub(super) fn status_of(refusal: &Refusal) -> StatusCode {
    StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A document of its own, without what the running parts would have to tell.
pub(super) fn plain(title: &str, content: &Markup) -> Markup {
    document(
        title,
        &html! {},
        &html! { main class="alone" id="content" { (content) } },
    )
}

/// A whole document.
pub(super) fn document(title: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · understudy" }
                link rel="icon" type="image/svg+xml" href=(ICON.path());
                link rel="stylesheet" href=(STYLE.path());
                (head)
            }
            body { (body) }
        }
    }
}
