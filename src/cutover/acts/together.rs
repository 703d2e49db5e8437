//! What a proxy does with the others of its fleet: it says how far it is, and waits until all are there.

use crate::cutover::coordinator::pause;
use crate::cutover::fleet::{Call, Decision, Fleet, FleetError, RefusedGuard, Sessions, Word};
use crate::cutover::guards::Verdict;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Who does not answer a call within this time is not there.
const HERE_MAX: Duration = Duration::from_secs(5);

/// All guards are judged within this time.
const CHECKED_MAX: Duration = Duration::from_secs(15);

/// All sessions are prepared within this time of this proxy's: longer than it takes any of them.
const PREPARED_MAX: Duration = Duration::from_secs(180);

/// The leader waits at least so long for the word of all before the switch. The sessions are held.
const WHOLE_MIN: Duration = Duration::from_secs(1);

/// So much later the others give up: the leader decides first.
const FOLLOWERS: Duration = Duration::from_secs(1);

/// For one look.
const GLANCE: Duration = Duration::from_millis(500);

/// Between two tries to say a word.
const AGAIN: Duration = Duration::from_millis(50);

/// A call, and the fleet that it is in.
#[derive(Clone)]
pub(super) struct Together {
    pub(super) fleet: Arc<Fleet>,
    pub(super) call: Call,
}

impl Together {
    pub(super) fn leads(&self) -> bool {
        self.fleet.leads(&self.call)
    }

    /// Every proxy is there; the sessions of all.
    ///
    /// # Errors
    /// Who is not, in words.
    pub(super) async fn here(&self, own: &Sessions) -> Result<Sessions, String> {
        let until = Instant::now() + HERE_MAX;
        while let Err(error) = self.fleet.here(&self.call, own).await {
            if Instant::now() >= until {
                return Err(error.to_string());
            }
            tokio::time::sleep(AGAIN).await;
        }
        let everybody = self.fleet.all(&self.call, Word::Here, until).await?;
        Ok(everybody.sessions())
    }

    /// What the guards of all say: where this proxy's let it pass, and another's do not, they are among
    /// them.
    ///
    /// # Errors
    /// A proxy could not judge them, or not in time.
    pub(super) async fn checked(&self, mut verdict: Verdict) -> Result<Verdict, String> {
        if !verdict.pass {
            // The leader's answer names them. That the call is ended is the machine's to do.
            let refused = verdict.guards.iter();
            let refused = refused.filter(|one| !one.guard.pass && !one.forced);
            let refused = refused.map(|one| RefusedGuard {
                name: one.guard.name.to_owned(),
                value: one.guard.value.clone(),
                why: one.guard.why.clone(),
            });
            let said = self.fleet.say(&self.call, Word::Here, refused.collect());
            if let Err(error) = said.await {
                tracing::warn!(%error, "the fleet does not hear which guards refuse");
            }
            return Ok(verdict);
        }
        let met = self.meet(Word::Checked, Instant::now() + CHECKED_MAX).await;
        let Err(why) = met else {
            return Ok(verdict);
        };
        let refused = self.fleet.refused(&self.call).await;
        if refused.is_empty() {
            return Err(why);
        }
        for (proxy, guard) in refused {
            verdict.refuse(&proxy, &guard);
        }
        Ok(verdict)
    }

    /// # Errors
    /// Who is not prepared, or why it was aborted.
    pub(super) async fn prepared(&self) -> Result<(), String> {
        let until = Instant::now() + PREPARED_MAX;
        self.meet(Word::Prepared, until).await
    }

    /// # Errors
    /// Who does not hold, or why it was aborted.
    pub(super) async fn held(&self, until: Instant) -> Result<(), String> {
        self.meet(Word::Held, until).await
    }

    async fn meet(&self, word: Word, until: Instant) -> Result<(), String> {
        self.say(word, until)
            .await
            .map_err(|error| error.to_string())?;
        self.fleet.all(&self.call, word, until).await.map(drop)
    }

    /// Says a word until it is heard.
    async fn say(&self, word: Word, until: Instant) -> Result<(), FleetError> {
        loop {
            match self.fleet.say(&self.call, word, Vec::new()).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// The switch of all: from the moment when this proxy says that it is whole, etcd alone says who is
    /// primary.
    ///
    /// # Errors
    /// etcd does not tell.
    pub(super) async fn switch(&self, until: Instant) -> Result<Decision, FleetError> {
        let until = until.max(Instant::now() + WHOLE_MIN);
        let later = until + FOLLOWERS;
        // Until it is said nobody can switch, and this proxy need not ask anybody to go on as it was.
        match self.fleet.answers(&self.call, until).await {
            Ok(None) => {}
            Ok(Some(decision)) => return Ok(decision),
            Err(error) => return Ok(Decision::Aborted(error.to_string())),
        }
        let said = self.say(Word::Whole, until).await;
        pause("whole").await;
        if said.is_err() || !self.leads() {
            return self.fleet.decision(&self.call, later).await;
        }
        let everybody = self.fleet.all(&self.call, Word::Whole, until).await;
        let decided = match &everybody {
            Ok(everybody) => self.fleet.switch(&self.call, everybody).await,
            Err(why) => self.fleet.abort(&self.call, why).await,
        };
        match decided {
            Ok(decision) => Ok(decision),
            Err(_) => self.fleet.decision(&self.call, later).await,
        }
    }

    /// The call still stands, asked now.
    ///
    /// # Errors
    /// It does not, or etcd does not tell.
    pub(super) async fn still_called(&self) -> Result<(), String> {
        let all = self.fleet.all(&self.call, Word::Held, Instant::now());
        let looked = tokio::time::timeout(GLANCE, all).await;
        looked
            .map_err(|_| "etcd does not answer".to_owned())?
            .map(drop)
    }

    /// How it was decided, asked now; where it was not, it is aborted.
    ///
    /// # Errors
    /// etcd does not tell.
    pub(super) async fn settle(&self) -> Result<Decision, FleetError> {
        self.fleet.decision(&self.call, Instant::now()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cutover::fleet::memory::Manner;
    use crate::cutover::fleet::tests::Three;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use std::sync::atomic::{AtomicU32, Ordering};

    static SWITCHED: AtomicU32 = AtomicU32::new(0);

    /// Until it knows; as the coordinator does.
    async fn ends(together: Together) -> Decision {
        let until = Instant::now() + Duration::from_millis(500);
        if let Ok(decision) = together.switch(until).await {
            return decision;
        }
        loop {
            if let Ok(decision) = together.settle().await {
                return decision;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lines are cut, lose answers and heal; a proxy dies and comes back; an operator aborts.
    async fn disturb(three: &mut Three, call: &Call, random: &mut StdRng) {
        for _ in 0..random.random_range(0..6) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..900))).await;
            let at = random.random_range(0..three.lines.len());
            let manner = match random.random_range(0..5) {
                0 => Manner::Cut,
                1 => Manner::Deaf,
                _ => Manner::Whole,
            };
            *three.lines[at].lock() = manner;
            if random.random_range(0..12) == 0 {
                let _ = three.proxies[at].abort(call, "an operator said so").await;
            }
        }
        for line in &three.lines {
            *line.lock() = Manner::Whole;
        }
    }

    async fn turn(seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut three = Three::new(seed).await;
        let call = three.call().await;
        let mut all = Vec::new();
        for fleet in &three.proxies {
            let (fleet, call) = (Arc::clone(fleet), call.clone());
            let pause = Duration::from_millis(random.random_range(0..700));
            all.push(tokio::task::spawn_local(async move {
                tokio::time::sleep(pause).await;
                ends(Together { fleet, call }).await
            }));
        }
        // One may die wherever it is, and come back.
        let dies = random.random_range(0..6);
        let after = Duration::from_millis(random.random_range(0..900));
        let victim = all.get(dies).map(tokio::task::JoinHandle::abort_handle);
        drop(tokio::task::spawn_local(async move {
            tokio::time::sleep(after).await;
            if let Some(victim) = victim {
                victim.abort();
            }
        }));
        disturb(&mut three, &call, &mut random).await;
        if dies < 3 {
            let name = ["a", "b", "c"][dies];
            tokio::time::sleep(after).await;
            let joined = three.start(name, seed + 1_000_000).await;
            let board = three.board().await;
            assert_eq!(
                joined.primary, board.primary,
                "seed {seed}: what it read holds"
            );
            assert_ne!(
                board.call.unwrap().phase,
                crate::cutover::fleet::Phase::Called
            );
        }
        let mut decisions = Vec::new();
        for one in all {
            decisions.extend(one.await.ok());
        }
        let primary = three.board().await.primary.unwrap().name;
        let switched = primary == "vitess";
        SWITCHED.fetch_add(u32::from(switched), Ordering::Relaxed);
        for decision in &decisions {
            let agrees = (*decision == Decision::Switched) == switched;
            assert!(
                agrees,
                "seed {seed}: {primary} is primary, and {decisions:?}"
            );
        }
    }

    #[test]
    fn whatever_happens_all_end_on_the_one_primary_that_etcd_has() {
        const SEEDS: u64 = 400;
        for seed in 0..SEEDS {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, turn(seed));
        }
        let switched = SWITCHED.load(Ordering::Relaxed);
        assert!(
            (40..360).contains(&switched),
            "{switched} of {SEEDS} switched: both ways are seen"
        );
    }
}
