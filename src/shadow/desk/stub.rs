//! What became of a command of which little or nothing came through the tee.

use super::{Desk, forget_tables};
use crate::compare::verdict::Reason;
use crate::ledger::Side;
use crate::shadow::antechamber::Came;
use crate::shadow::effect::{commits, resets, statements, written};
use crate::shadow::job::{Held, Skip};
use crate::shadow::journal::{Entry, Untold};
use crate::shadow::order::Scope;
use crate::shadow::owed::Owed;
use crate::shadow::pin::LastKey;
use crate::shadow::reading::{Missing, Reading};
use crate::shadow::shared::Shared;
use crate::shadow::transaction::{Ending, Said, Seen, Step};
use crate::sql::{Change, Class};
use crate::tee::{Facts, Stub};
use crate::wire::capability::Capabilities;
use crate::wire::command::{Command, Expect};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::time::Instant;

impl Desk {
    /// Takes what stayed of an exchange that was dropped.
    pub(in crate::shadow) fn stub(&mut self, shared: &Arc<Shared>, stub: Box<Stub>, came: Came) {
        self.log_in(shared, &stub.facts);
        self.seq = stub.seq;
        let cut = stub.command_bytes > stub.command.len() as u64;
        let mut reading = self.read(shared, &stub.command, self.missing_of(&stub, cut));
        if reading.kind == Command::STMT_SEND_LONG_DATA {
            if let Some((id, _)) = &reading.statement {
                self.long.lose(*id);
            }
            return;
        }
        if cut && !is_told_by_its_beginning(&reading) {
            reading.writes = Scope::All;
            reading.scope = Scope::All;
        }
        let _gone = self.take_long(&reading);
        let several = cut || statements(&reading) > 1;
        let failed = stub.error.is_some() || !stub.answered;
        let said = match stub.error {
            _ if !stub.answered => Said::Nothing,
            Some(code) => Said::Failed(code, several.then_some(stub.in_transaction_after)),
            None => Said::Done(Some(stub.in_transaction_after)),
        };
        let step = self.tracker.step(&Seen {
            flag_before: stub.in_transaction_before,
            said,
            control: reading.control,
            commits: commits(&reading, said),
            resets: resets(reading.kind),
            reads: self.opens_snapshot(&reading),
            writes: written(&reading),
            touches: &reading.scope,
            began: stub.began,
        });
        self.in_transaction = step.after;
        self.begin(came, &step);
        self.take_ties_of_stub(shared, &stub, &reading, cut || several && failed);
        let entries = self.entries_of_stub(&stub, &reading, cut || several && failed);
        if stub.kind().expect() != Expect::Nothing {
            let primary = Side {
                server: Arc::clone(&stub.facts.primary),
                rows: 0,
                error: None,
                affected_rows: None,
                first_byte_us: None,
                latency_us: None,
            };
            Owed::of(&shared.ledger, &reading, self.asker(), primary).not_compared(Reason::Dropped);
        }
        if reading.class == Class::Ddl {
            // When it was acknowledged, nobody knows any more: no later than now.
            forget_tables(shared, &reading.writes, Instant::now());
        }
        self.remember_stub(shared, &reading, &step, &stub, cut || several);
        if !matches!(
            reading.class,
            Class::Empty | Class::Session | Class::Transaction | Class::Ddl
        ) || several
        {
            self.last_key = LastKey::Unknown;
        }
        let may_have_written = several || !stub.answered || !failed;
        let dropped = Reason::Dropped;
        self.lose(shared, &reading, &step, Err(dropped), may_have_written);
        let held = Held::Stub(stub);
        self.tell_skipped(shared, &reading, &step, dropped, entries, held);
    }

    /// It may have committed, though it is not mirrored: a read at that time may have seen it.
    fn remember_stub(
        &self,
        shared: &Shared,
        reading: &Reading,
        step: &Step,
        stub: &Stub,
        several: bool,
    ) {
        if stub.error.is_some() && !several {
            return;
        }
        let mut scope = Scope::none();
        if matches!(step.ended, Some(Ending::Commit | Ending::Unknown)) {
            scope.join(&step.wrote);
        }
        if !step.after || reading.ends_inside {
            scope.join(&reading.writes);
        }
        if !scope.is_empty() {
            // When it was acknowledged nobody noted: by now.
            let mut recent = shared.recent.lock();
            recent.push(self.facts.session, scope, stub.began, Instant::now());
        }
    }

    /// Commands of the session came to nothing.
    pub(in crate::shadow) fn lose_all(&mut self, shared: &Arc<Shared>, facts: &Arc<Facts>) {
        self.forget_all(shared, facts, "commands were lost");
        // Of every database: a USE may have been among them.
        shared.taint(
            &Scope::All,
            "",
            &"commands were lost: the queue and even the room for their first bytes were full"
                .into(),
        );
    }

    /// Commands of the session passed by: what they may have written is tainted apart.
    pub(in crate::shadow) fn was_passed(&mut self, shared: &Arc<Shared>, facts: &Arc<Facts>) {
        self.forget_all(
            shared,
            facts,
            "commands passed by while nothing was observed",
        );
    }

    /// Of the session nothing is known any more.
    fn forget_all(&mut self, shared: &Arc<Shared>, facts: &Arc<Facts>, why: &'static str) {
        self.log_in(shared, facts);
        self.ties.lose(why);
        self.last_key = LastKey::Unknown;
        self.journal.lose();
        self.absent = Some(Reason::Dropped);
        // Of a transaction that is open; of none, the next command lets it go.
        self.lost = Scope::All;
        self.long.clear();
        self.pass_on(Skip {
            entries: vec![Entry::Untold(Untold::Anything)],
            ends: None,
            abandons: Some(Reason::Dropped),
            ticket: None,
            misses: Scope::none(),
            _held: Held::Nothing,
        });
    }

    /// What it may have left behind. `unsure`: as below.
    fn take_ties_of_stub(&mut self, shared: &Shared, stub: &Stub, reading: &Reading, unsure: bool) {
        let tells = reading.analysis.as_ref().is_none_or(|analysis| {
            let all = &mut analysis.statements.iter();
            all.any(|one| one.ties || one.stored || one.changes.contains(&Change::Unknown))
        });
        let failed = stub.error.is_some() || !stub.answered;
        let written = matches!(reading.class, Class::Read | Class::Write);
        if unsure && !written || (unsure || failed) && tells && reading.runs {
            self.ties.lose("a command was dropped");
        } else if !failed {
            self.take_ties(shared, reading, &stub.command, None);
        }
    }

    /// What may be missing of a stub that was cut.
    fn missing_of(&self, stub: &Stub, cut: bool) -> Missing {
        let agreed = self.facts.capabilities.has(Capabilities::MULTI_STATEMENTS);
        let several = self.journal.multi_statements().unwrap_or(agreed) && !stub.one_result;
        match (cut, several) {
            (false, _) => Missing::Nothing,
            (true, false) => Missing::End,
            (true, true) => Missing::Statements,
        }
    }

    /// `unsure`: not all of its statements are known, or which of them were run.
    fn entries_of_stub(&mut self, stub: &Stub, reading: &Reading, unsure: bool) -> Vec<Entry> {
        let failed = stub.error.is_some() || !stub.answered;
        let mut entries = match reading.kind {
            Command::STMT_PREPARE => {
                let whole = stub.prepared.filter(|_| !unsure);
                let new = whole.and_then(|(id, parameters)| {
                    reading.newly_prepared(&stub.command, id, parameters)
                });
                vec![new.unwrap_or(Entry::NotPrepared)]
            }
            // Perhaps it bound types.
            Command::STMT_EXECUTE => reading
                .statement
                .iter()
                .map(|(id, _)| Entry::Types(*id, None))
                .collect(),
            _ if unsure && !matches!(reading.class, Class::Read | Class::Write) => {
                vec![Entry::Untold(Untold::Anything)]
            }
            _ if failed => Vec::new(),
            _ => reading.entries(
                &stub.command,
                self.facts.capabilities,
                None,
                &BTreeSet::new(),
            ),
        };
        if resets(reading.kind) && failed {
            entries.clear();
        }
        for entry in &entries {
            self.apply_one(entry, usize::MAX);
        }
        entries
    }
}

/// Whether the first KiB of a longer command says which tables it writes.
fn is_told_by_its_beginning(reading: &Reading) -> bool {
    let one_statement = reading.analysis.is_some() && statements(reading) == 1;
    let known = matches!(&reading.writes, Scope::Known(tables) if !tables.is_empty());
    let is_execute = reading.kind == Command::STMT_EXECUTE;
    is_execute || one_statement && (known || reading.class == Class::Read)
}
