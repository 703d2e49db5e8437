//! A form as a browser sends it. It cannot be had but from our own document: its token is looked at before
//! a handler sees a field.

use super::seats::Visitor;
use super::trouble::Trouble;
use crate::admin::answer::{Refusal, body};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use maud::{Markup, html};
use subtle::ConstantTimeEq;

/// The field in which a form carries its token.
pub(super) const TOKEN: &str = "form_token";

/// Fields of a form at most.
const FIELDS_MAX: usize = 200;

/// The cookie that remembers how somebody is called, so that a name is typed once.
const WHO: &str = "understudy_who";

/// Its life: a year.
const WHO_S: u32 = 31_536_000;

/// The fields of a form.
#[derive(Debug)]
pub(super) struct Sent(Vec<(String, String)>);

impl Sent {
    /// A field's text; none where it is missing or blank.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let text = found.map(|(_, text)| text.trim())?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// All that were given by one name.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let named = self.0.iter().filter(|(known, _)| known == name);
        named.map(|(_, text)| text.clone()).collect()
    }
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Trouble;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Trouble> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let body = body(request).await?;
        let fields = form_urlencoded::parse(&body).into_owned();
        let sent = Self(fields.take(FIELDS_MAX).collect());
        let given = sent.text(TOKEN).unwrap_or_default();
        let right = visitor.is_some_and(|visitor| {
            let token = visitor.form_token.as_bytes();
            !token.is_empty() && bool::from(given.as_bytes().ct_eq(token))
        });
        if right {
            return Ok(sent);
        }
        Err(Refusal::forbidden(
            "nothing was done: this form is from before a login or a restart; load the page again and send it once more",
        )
        .into())
    }
}

/// The hidden field of every form.
pub(super) fn token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name=(TOKEN) value=(visitor.form_token); }
}

/// How whoever asks is called: by the name of their token, or else as they were called last.
pub(super) fn who(visitor: &Visitor, headers: &HeaderMap) -> String {
    if visitor.caller.is_named() {
        visitor.caller.name().to_string()
    } else {
        remembered(headers)
    }
}

/// The hint in the place of a form that the visitor may not send.
pub(super) fn not_yours(visitor: &Visitor) -> Markup {
    html! { p class="soft" { (visitor.caller.name()) " has the role viewer: this is for operators." } }
}

fn remembered(headers: &HeaderMap) -> String {
    let kept = cookie(headers, WHO).unwrap_or_default();
    let written = format!("who={kept}");
    let mut fields = form_urlencoded::parse(written.as_bytes());
    fields
        .next()
        .map_or_else(String::new, |(_, who)| who.into_owned())
}

/// Has the browser remember it.
pub(super) fn remember(who: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(who) = who else { return headers };
    let written: String = form_urlencoded::byte_serialize(who.as_bytes()).collect();
    let cookie = format!("{WHO}={written}; Path=/ui; Max-Age={WHO_S}; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::try_from(cookie) {
        headers.insert(header::SET_COOKIE, value);
    }
    headers
}

/// A cookie's value.
pub(in crate::admin) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).into_iter();
    let pairs = all.filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = pairs.flat_map(|cookies| cookies.split(';'));
    pairs.find_map(|pair| {
        let (known, value) = pair.trim().split_once('=')?;
        (known == name).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_remembered_as_it_was_written() {
        for name in ["dba", "Zoë; Path=/", "a=b&c", "<script>"] {
            let set = remember(Some(name));
            let set = set[header::SET_COOKIE].to_str().unwrap();
            let pair = set.split(';').next().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(pair).unwrap());
            assert_eq!(remembered(&headers), name);
        }
        assert_eq!(remembered(&HeaderMap::new()), "");
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=1; b=2;c=3"));
        assert_eq!(cookie(&headers, "b").as_deref(), Some("2"));
        assert_eq!(cookie(&headers, "c").as_deref(), Some("3"));
        assert_eq!(cookie(&headers, "d"), None);
    }
}
