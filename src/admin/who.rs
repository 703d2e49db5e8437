//! Who asks for what changes something, as the body tells it.

use super::answer::Refusal;
use crate::config;
use serde::Deserialize;

/// Where the body does not tell.
const SOMEBODY: &str = "operator";

/// A body that tells nothing else.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    pub(super) who: Option<String>,
}

/// The name to be recorded.
///
/// # Errors
/// It is none that a record can hold.
pub(super) fn said(who: Option<String>) -> Result<String, Refusal> {
    let who = who.unwrap_or_else(|| SOMEBODY.to_owned());
    config::said("who", &who).map_err(|wrong| Refusal::bad(wrong.to_string()))?;
    Ok(who)
}
