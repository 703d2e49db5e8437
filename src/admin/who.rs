//! Who asks, as a token proves it; and who is to be recorded for what changes something, as the body tells it.

use super::answer::Refusal;
use super::holders::{Holders, Shown};
use crate::config::{self, Role, SOMEBODY};
use serde::Deserialize;
use std::sync::Arc;

/// A body that tells nothing else.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    pub(super) who: Option<String>,
}

/// Who asks; in the extensions of each request that was let in.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    name: Arc<str>,
    role: Role,
    /// By which token; none where none is needed.
    token: Option<(Shown, Arc<Holders>)>,
}

impl Caller {
    /// Somebody by this name.
    pub(super) const fn known(
        name: Arc<str>,
        role: Role,
        token: Option<(Shown, Arc<Holders>)>,
    ) -> Self {
        Self { name, role, token }
    }

    /// How what they do is signed.
    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What they may do.
    pub(super) const fn role(&self) -> Role {
        self.role
    }

    /// What their token is known by; nothing where none is needed.
    pub(super) fn token(&self) -> Option<Shown> {
        self.token.as_ref().map(|(shown, _)| *shown)
    }

    /// Whether the name is theirs alone.
    pub(super) fn is_named(&self) -> bool {
        self.token.as_ref().is_some_and(|(_, all)| all.have_names())
    }

    /// Whether their token is one no more.
    pub(super) fn is_over(&self) -> bool {
        let token = self.token.as_ref();
        token.is_some_and(|(shown, all)| all.still(shown).is_none())
    }

    /// They may change what the admin can change.
    ///
    /// # Errors
    /// They may only look.
    pub(super) fn may_change(&self) -> Result<(), Refusal> {
        match self.role {
            Role::Operator => Ok(()),
            Role::Viewer => Err(Refusal::forbidden(format!(
                "nothing was done: this needs the role operator, and the token of {} has the role viewer",
                self.name
            ))),
        }
    }

    /// The name to be recorded, where somebody is named or the token has a name: it stands beside another one
    /// that the body tells.
    ///
    /// # Errors
    /// What the body tells is none that a record can hold.
    pub(super) fn signs(&self, who: Option<String>) -> Result<Option<String>, Refusal> {
        let Some(who) = who else {
            return Ok(self.is_named().then(|| self.name.to_string()));
        };
        config::said("who", &who).map_err(|wrong| Refusal::bad(wrong.to_string()))?;
        if self.is_named() && who != *self.name {
            return Ok(Some(format!("{who} (token: {})", self.name)));
        }
        Ok(Some(who))
    }

    /// The same, with a name for whoever has none.
    ///
    /// # Errors
    /// As [`Caller::signs`].
    pub(super) fn says(&self, who: Option<String>) -> Result<String, Refusal> {
        let signed = self.signs(who)?;
        Ok(signed.unwrap_or_else(|| SOMEBODY.to_owned()))
    }
}
