//! Who has a token, as config and tokens' file say at this moment.
//!
//! The file is looked at by the admin's runtime alone. One that cannot be read any more, or is wrong, changes
//! nothing, and that is said until it is mended: who was let in before still is.

use super::Counters;
use super::watched;
use super::who::Caller;
use crate::config::{self, Holder, Role, Secret, TOKEN_CHARS_MIN, TokenDigest, TokensFile};
use arc_swap::ArcSwap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Debug)]
pub(super) struct Holders {
    /// The one token of `admin.token`.
    one: Option<Secret>,
    file: Option<PathBuf>,
    now: ArcSwap<Vec<Holder>>,
    counters: Arc<Counters>,
}

impl Holders {
    /// As the config has them.
    pub(super) fn new(admin: &config::Admin, counters: &Arc<Counters>) -> Arc<Self> {
        let short = |token: &&Secret| token.0.len() < TOKEN_CHARS_MIN;
        if admin.token.as_ref().filter(short).is_some() {
            tracing::warn!(
                "admin.token has fewer than {TOKEN_CHARS_MIN} characters and might be guessed: give the admin a longer one, such as what `openssl rand -hex 32` prints"
            );
        }
        let holders = Self {
            one: admin.token.clone(),
            file: admin.tokens_file.as_ref().map(|file| file.path.clone()),
            now: ArcSwap::default(),
            counters: Arc::clone(counters),
        };
        let read = admin.tokens_file.as_ref().map(|file| file.holders.clone());
        holders.take(read.unwrap_or_default());
        Arc::new(holders)
    }

    fn take(&self, holders: Vec<Holder>) {
        let one = self.one.iter().map(Holder::of_the_one);
        self.now.store(Arc::new(one.chain(holders).collect()));
    }

    /// Whether nobody needs a token.
    pub(super) const fn are_all(&self) -> bool {
        self.one.is_none() && self.file.is_none()
    }

    /// Whether each has a token and a name of their own.
    pub(super) const fn have_names(&self) -> bool {
        self.file.is_some()
    }

    /// Whose token this is. It is held against all of them, in constant time.
    pub(super) fn whose(self: &Arc<Self>, token: &[u8]) -> Option<Caller> {
        self.still(&TokenDigest::of(token))
    }

    /// Who has the token of this digest now.
    pub(super) fn still(self: &Arc<Self>, digest: &TokenDigest) -> Option<Caller> {
        self.caller(|holder| holder.digest.is(digest))
    }

    /// Who has the token that a proof is made of; of those whose token is known, not its digest alone.
    pub(super) fn prove(self: &Arc<Self>, is_of: impl Fn(&Secret) -> bool) -> Option<Caller> {
        self.caller(|holder| holder.token.as_ref().is_some_and(&is_of))
    }

    fn caller(self: &Arc<Self>, is_it: impl Fn(&Holder) -> bool) -> Option<Caller> {
        let now = self.now.load();
        // No early end, for it would tell which.
        let mut found = None;
        for holder in now.iter() {
            if is_it(holder) {
                found = Some(holder);
            }
        }
        found.map(|holder| Caller::holder(holder, self))
    }

    /// Looks at the file until told to end.
    pub(super) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(path) = self.file.clone() else {
            return;
        };
        let files = ("admin.tokens_file", vec![path.clone()]);
        let one = self.one.clone();
        let read = move || TokensFile::read(&path, one.as_ref()).map_err(|error| error.to_string());
        let refused = &self.counters.tokens_refused;
        let take = |found: Option<TokensFile>| match found {
            Some(file) => {
                refused.store(0, Ordering::Relaxed);
                self.change(file.holders);
            }
            None => {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        };
        watched::keep(files, read, take, stop).await;
    }

    /// Takes over what the file says, and says so where it is something else.
    fn change(&self, holders: Vec<Holder>) {
        let before = self.now.load_full();
        let same = |one: &Holder, other: &Holder| {
            one.name == other.name && one.role == other.role && one.digest.is(&other.digest)
        };
        let known = |all: &[Holder], one: &Holder| all.iter().any(|other| same(one, other));
        let of_file = before.len().saturating_sub(usize::from(self.one.is_some()));
        let changed = of_file != holders.len() || !holders.iter().all(|one| known(&before, one));
        let told: Vec<String> = holders
            .iter()
            .map(|one| format!("{} ({})", one.name, one.role.name()))
            .collect();
        self.take(holders);
        if changed {
            tracing::info!(
                "admin.tokens_file has changed: these may ask now: {}",
                told.join(", ")
            );
        }
    }
}

impl Caller {
    /// The holder of a token.
    fn holder(holder: &Holder, holders: &Arc<Holders>) -> Self {
        Self::known(
            Arc::clone(&holder.name),
            holder.role,
            Some((holder.digest, Arc::clone(holders))),
        )
    }

    /// Whoever asks where no token is needed.
    pub(super) fn anybody() -> Self {
        Self::known(config::SOMEBODY.into(), Role::Operator, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Duration;
    use tokio::time::Instant;

    const ALICE: &str = "[alice]\nrole = \"operator\"\ntoken = \"alice-alice-alice\"\n";
    const BOB: &str = "[bob]\nrole = \"viewer\"\ntoken = \"bob-bob-bob-bob-bob\"\n";

    fn holders(path: &Path) -> Arc<Holders> {
        let text = format!("[admin]\ntoken = \"the-one-that-all-have\"\ntokens_file = {path:?}\n");
        let config = config::Config::parse(&text, &[]).unwrap();
        Holders::new(&config.admin, &Arc::default())
    }

    async fn until(what: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !what() {
            assert!(Instant::now() < end, "it never came to that");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_is_taken_over_and_one_that_is_wrong_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        std::fs::write(&path, format!("{ALICE}{BOB}")).unwrap();
        let holders = holders(&path);
        let role = |token: &str| holders.whose(token.as_bytes()).map(|it| it.role());
        assert_eq!(role("the-one-that-all-have"), Some(Role::Operator));
        assert_eq!(role("alice-alice-alice"), Some(Role::Operator));
        assert_eq!(role("bob-bob-bob-bob-bob"), Some(Role::Viewer));
        for wrong in ["", "alice", "alice-alice-alice "] {
            assert_eq!(role(wrong), None, "{wrong:?}");
        }
        let bob = holders.whose(b"bob-bob-bob-bob-bob").unwrap();
        let stop = CancellationToken::new();
        let watch = crate::task::spawn("holders", Arc::clone(&holders).watch(stop.clone()));
        // Wrong, and gone: who could ask still can.
        let refused = || holders.counters.tokens_refused.load(Ordering::Relaxed);
        std::fs::write(&path, "[alice]\nrole = \"king\"\n").unwrap();
        until(|| refused() > 0).await;
        assert!(!bob.is_over() && role("alice-alice-alice").is_some());
        std::fs::remove_file(&path).unwrap();
        let before = refused();
        until(|| refused() > before).await;
        assert!(!bob.is_over() && role("alice-alice-alice").is_some());
        let promoted = BOB.replace("viewer", "operator");
        std::fs::write(&path, format!("{ALICE}{promoted}")).unwrap();
        until(|| role("bob-bob-bob-bob-bob") == Some(Role::Operator)).await;
        assert!(!bob.is_over());
        std::fs::write(&path, ALICE).unwrap();
        until(|| bob.is_over()).await;
        assert_eq!(role("alice-alice-alice"), Some(Role::Operator));
        stop.cancel();
        watch.await.unwrap();
    }
}
