//! What every answer has in common: errors as `{"error": {"code", "message"}}`, strict queries and
//! bodies, and reads of the ledger that are bounded.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A request's body at most, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// A request's body must arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads of the ledger under way at once; more wait their turn.
static READS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(4));

/// Scrapes under way at once. They have places of their own, for they never wait for the file.
static SCRAPES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

/// A read of the ledger, its turn included, takes no longer than this.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// That time, and what is said after it.
const READING: (Duration, &str) = (READ_TIMEOUT, "there was no answer in time");

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    pub(super) const fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// What happened and what to do, in words.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// 404.
pub(super) async fn no_such_path(uri: Uri) -> Refusal {
    Refusal::not_found(format!(
        "there is nothing at {}; GET /api/v1/status is a good beginning",
        uri.path()
    ))
}

/// 405.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let message = format!("{} does not take {method}", uri.path());
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}

/// A query, with nothing in it that is not known.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(asked)| Self(asked))
            .map_err(|error| {
                let why = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string);
                Refusal::bad(format!("the query is wrong: {why}"))
            })
    }
}

/// The id at the end of a path.
#[derive(Debug)]
pub(super) struct Id(pub(super) i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Refusal::bad(format!("the path is wrong: {error}")))?;
        id.parse()
            .map(Self)
            .map_err(|_| Refusal::bad(format!("{id:?} is no id: ids are numbers")))
    }
}

/// A JSON body, with nothing in it that is not known, whatever its content type says: another
/// site's pages are refused before, by their Origin.
#[derive(Debug)]
pub(super) struct Told<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Told<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        understood(&body(request).await?).map(Self)
    }
}

/// The same where no body at all says everything by default.
#[derive(Debug)]
pub(super) struct ToldOrNothing<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for ToldOrNothing<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        match body(request).await? {
            nothing if nothing.is_empty() => Ok(Self(T::default())),
            body => understood(&body).map(Self),
        }
    }
}

/// A request's body, within bounds of size and time.
pub(super) async fn body(request: Request) -> Result<Bytes, Refusal> {
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
    tokio::time::timeout(BODY_TIMEOUT, body)
        .await
        .map_err(|_| {
            Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "the body did not arrive in time",
            )
        })?
        .map_err(|_| {
            let message = format!("the body broke off, or is longer than {BODY_BYTES_MAX} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
        })
}

fn understood<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is wrong: {error}")))
}

/// Runs a read of the ledger off the runtime's thread, a few at once, within a time.
pub(super) async fn read<T, E>(
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let found = read_at(&READS, READING, read).await;
    found.map_err(Refusal::unavailable)
}

/// Reads under way at once that tell an operator how it stands after what they asked for was done. They have places of
/// their own: readers that hang must not make of what was done something that is not known.
static AFTERWARDS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

/// Such a read, its turn included, takes no longer than this: without it there is an answer, too.
const AFTERWARDS_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads how it stands, once what was asked for was done.
///
/// # Errors
/// It cannot be read now, and why.
pub(super) async fn read_afterwards<T, E>(
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let time = (AFTERWARDS_TIMEOUT, "the ledger did not answer in time");
    read_at(&AFTERWARDS, time, read).await
}

/// Reads at one of these places, or says why that cannot be.
async fn read_at<T, E>(
    places: &'static Semaphore,
    time: (Duration, &'static str),
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    match aside(places, time, read).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!("the ledger cannot be read: {error}")),
        Err(refusal) => Err(refusal.message),
    }
}

/// Changes of the ledger under way at once. They have places of their own, for readers that hang must
/// not keep an operator's judgement from being written.
static CHANGES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

/// A change, its turn included, takes no longer than this. It is more than the ledger's own time for
/// one, after which the ledger says whether it was made.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(25);

/// Runs a change of the ledger off the runtime's thread. What it says of its failure is told as it
/// is: it knows whether something was changed.
pub(super) async fn change<T, E>(
    change: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    const LATE: &str = "there was no answer in time: whether the change was made is not known, look before you repeat it";
    let done = aside(&CHANGES, (CHANGE_TIMEOUT, LATE), change).await?;
    done.map_err(|error| Refusal::unavailable(error.to_string()))
}

/// Runs a look at what is counted in memory off the runtime's thread.
pub(super) async fn scrape<T: Send + 'static>(
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    aside(&SCRAPES, READING, look).await
}

/// Runs work of the admin's own, which nobody waits for, off the runtime's thread and within the
/// places of reads; `None` where it broke off or had no place in time.
pub(super) async fn aside_quietly<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    aside(&READS, READING, work).await.ok()
}

async fn aside<T: Send + 'static>(
    places: &'static Semaphore,
    (time, late): (Duration, &'static str),
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let done = async {
        let place = places
            .acquire()
            .await
            .map_err(|_| Refusal::unavailable("it is ending"))?;
        // The work keeps its place when its caller has given up: it holds a thread.
        let work = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Refusal::unavailable("the work broke off; the log says why"))
    };
    match tokio::time::timeout(time, done).await {
        Ok(done) => done,
        Err(_) => Err(Refusal::unavailable(late)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_that_fails_says_so_in_its_own_words() {
        let fault = "the ledger's file cannot be written now; nothing was changed, try again";
        let refused = change(move || Err::<(), _>(fault)).await.unwrap_err();
        assert_eq!((refused.status(), &*refused.message), (503, fault));
    }

    #[tokio::test]
    async fn a_scrape_does_not_wait_for_reads_that_hang() {
        let _hang = READS.acquire_many(4).await.expect("places");
        let scraped = tokio::time::timeout(Duration::from_secs(10), scrape(|| 1)).await;
        assert_eq!(scraped.expect("in time").expect("looked"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn how_it_stands_afterwards_is_not_kept_by_reads_that_hang() {
        let _hang = READS.acquire_many(4).await.expect("places");
        let told = read_afterwards(|| Ok::<_, String>(1)).await;
        assert_eq!(told, Ok(1));
        let _hang = AFTERWARDS.acquire_many(2).await.expect("places");
        let late = read_afterwards(|| Ok::<_, String>(1)).await.unwrap_err();
        assert!(late.contains("in time"), "{late}");
    }

    #[tokio::test]
    async fn a_ledger_that_cannot_be_read_is_told_in_the_same_words_before_and_afterwards() {
        const WORDS: &str = "the ledger cannot be read: it is gone";
        let before = read(|| Err::<(), _>("it is gone")).await.unwrap_err();
        assert_eq!((before.status(), before.message()), (503, WORDS));
        let afterwards = read_afterwards(|| Err::<(), _>("it is gone")).await;
        assert_eq!(afterwards, Err(WORDS.to_owned()));
    }
}
