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
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Debug)]
pub(super) struct Holders {
    /// The one token of `admin.token`.
    one: Option<Secret>,
    file: Option<PathBuf>,
    now: ArcSwap<Vec<Held>>,
    /// Tokens that were given to somebody since the start.
    given: AtomicU64,
    counters: Arc<Counters>,
}

/// Somebody who has a token.
#[derive(Debug)]
struct Held {
    holder: Holder,
    /// By its number it is told from the same token, once that was taken out and put back.
    number: u64,
}

/// A token that somebody has shown, as it is known again for as long as nobody takes it out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    digest: TokenDigest,
    number: u64,
}

impl Shown {
    /// Whether both are of one token; in constant time.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.digest.is(&other.digest) && self.number == other.number
    }
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
            given: AtomicU64::new(0),
            counters: Arc::clone(counters),
        };
        let read = admin.tokens_file.as_ref().map(|file| file.holders.clone());
        holders.take(read.unwrap_or_default());
        Arc::new(holders)
    }

    fn take(&self, holders: Vec<Holder>) {
        let before = self.now.load_full();
        let held = |holder: Holder| {
            let mut known = before.iter();
            let known = known.find(|held| held.holder.digest.is(&holder.digest));
            let number = known.map_or_else(
                || self.given.fetch_add(1, Ordering::Relaxed),
                |held| held.number,
            );
            Held { holder, number }
        };
        let one = self.one.iter().map(Holder::of_the_one);
        let all = one.chain(holders).map(held).collect();
        self.now.store(Arc::new(all));
    }

    /// Whether nobody needs a token.
    pub(super) const fn are_all(&self) -> bool {
        self.one.is_none() && self.file.is_none()
    }

    /// Whether each has a token and a name of their own.
    pub(super) const fn have_names(&self) -> bool {
        self.file.is_some()
    }

    /// Whose token this is. It is held against all of them, in constant time. None at all is nobody's, whatever the
    /// file says.
    pub(super) fn whose(self: &Arc<Self>, token: &[u8]) -> Option<Caller> {
        if token.is_empty() {
            return None;
        }
        let given = TokenDigest::of(token);
        self.caller(|held| held.holder.digest.is(&given))
    }

    /// Who has this token now, if it has not been taken out since it was shown.
    pub(super) fn still(self: &Arc<Self>, shown: &Shown) -> Option<Caller> {
        self.caller(|held| held.shown().is(shown))
    }

    /// Who has the token that a proof is made of; of those whose token is known, not its digest alone.
    pub(super) fn prove(self: &Arc<Self>, is_of: impl Fn(&Secret) -> bool) -> Option<Caller> {
        self.caller(|held| held.holder.token.as_ref().is_some_and(&is_of))
    }

    fn caller(self: &Arc<Self>, is_it: impl Fn(&Held) -> bool) -> Option<Caller> {
        let now = self.now.load();
        // No early end, for it would tell which.
        let mut found = None;
        for held in now.iter() {
            if is_it(held) {
                found = Some(held);
            }
        }
        found.map(|held| Caller::holder(held, self))
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
        let known = |one: &Holder| before.iter().any(|other| same(one, &other.holder));
        let of_file = before.len().saturating_sub(usize::from(self.one.is_some()));
        let changed = of_file != holders.len() || !holders.iter().all(known);
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

impl Held {
    const fn shown(&self) -> Shown {
        Shown {
            digest: self.holder.digest,
            number: self.number,
        }
    }
}

impl Caller {
    /// The holder of a token.
    fn holder(held: &Held, holders: &Arc<Holders>) -> Self {
        Self::known(
            Arc::clone(&held.holder.name),
            held.holder.role,
            Some((held.shown(), Arc::clone(holders))),
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
        let nobodys = Holder {
            name: "nobody".into(),
            role: Role::Operator,
            digest: TokenDigest::of(b""),
            token: None,
        };
        let all = holders.now.load();
        let before: Vec<Holder> = all.iter().skip(1).map(|it| it.holder.clone()).collect();
        holders.change(vec![nobodys]);
        assert_eq!(
            role(""),
            None,
            "no token is nobody's, whatever the file says"
        );
        holders.change(before);
        let shown = || holders.whose(b"bob-bob-bob-bob-bob");
        let bob = shown().unwrap();
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
        // Put back it is another one: what was opened by the one before stays shut.
        std::fs::write(&path, format!("{ALICE}{BOB}")).unwrap();
        until(|| shown().is_some()).await;
        assert!(bob.is_over() && !shown().unwrap().is_over());
        stop.cancel();
        watch.await.unwrap();
    }
}
