//! The stylesheet, the script and the icon: in the binary, and named by their content, so that a browser asks
//! for each version once.

use super::trouble::Trouble;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::LazyLock;

/// One file.
#[derive(Debug)]
pub(super) struct Asset {
    name: String,
    kind: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(stem: &str, ending: &str, kind: &'static str, text: &'static str) -> Self {
        let digest = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        Self {
            name: format!("{stem}-{digest:016x}.{ending}"),
            kind,
            text,
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> String {
        format!("/ui/assets/{}", self.name)
    }
}

pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let kind = "text/css; charset=utf-8";
    Asset::new("page", "css", kind, include_str!("page.css"))
});

pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let kind = "text/javascript; charset=utf-8";
    Asset::new("page", "js", kind, include_str!("page.js"))
});

pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg")));

/// For a year, without asking again: another content has another name.
const CACHED: &str = "public, max-age=31536000, immutable";

/// One of them.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let all = [&*STYLE, &*SCRIPT, &*ICON];
    let found = all.into_iter().find(|asset| asset.name == name);
    let Some(asset) = found else {
        return Trouble::no_such_page("an asset of this name; load the page again").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, CACHED),
    ];
    (headers, asset.text).into_response()
}
