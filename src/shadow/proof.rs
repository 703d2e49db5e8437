//! What goes with a divergence, so that an engineer can see and repeat it: the statement as it was
//! worded, the session's state, and the question for both servers' plans. Built where something
//! diverged, never before.

use super::job::Run;
use super::journal::Journal;
use super::parameters;
use super::perform;
use super::plans::Question;
use super::reading::Text;
use super::shared::Shared;
use crate::ledger::observation::{Context, Wording};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The statement as the client worded it; none for commands without one.
    pub(super) wording: Option<Wording>,
    /// The session's state when it sent the command.
    pub(super) context: Box<Context>,
    /// To be asked if the command's verdict stands; none where the plans are known.
    pub(super) question: Option<Question>,
}

impl Evidence {
    /// Of a command that has just been run, before the journal takes it in. `commands`: those of
    /// its transaction that ran before it.
    pub(super) fn of(shared: &Shared, run: &Run, journal: &Journal, commands: u64) -> Self {
        let database = journal.database();
        let mapped = shared.server.databases.get(database);
        let facts = &run.charged.facts;
        let shadow_database = mapped.map_or(database, String::as_str);
        let parameters = parameters::of(run);
        let question = shared
            .planner
            .question(run, journal, shadow_database, parameters.as_ref());
        let context = Context {
            shadow_database: shadow_database.to_owned(),
            parameters: parameters.and_then(Result::ok),
            settings: journal
                .settings()
                .map(|(name, assignment)| (name.to_owned(), assignment.to_owned()))
                .collect(),
            known: !journal.is_unknown() && !facts.share.journal_unknown(),
            collation: facts.collation,
            no_backslash_escapes: run.reading.dialect.no_backslash_escapes,
            in_transaction: run.step.before,
            commands_before: if run.step.before { commands } else { 0 },
            wrote_before: run.step.before && run.step.written_before,
            rewritten: is_rewritten(run),
        };
        Self {
            wording: perform::wording_of(run),
            context: Box::new(context),
            question,
        }
    }
}

/// Whether the shadow was sent another text than the primary.
fn is_rewritten(run: &Run) -> bool {
    let prepared = run.reading.statement.as_ref().is_some_and(|(_, known)| {
        let mapped = known.prepared.mapped.as_ref();
        mapped.is_some_and(|mapped| !Arc::ptr_eq(mapped, &known.prepared.text))
    });
    prepared || run.pin.text.is_some() || matches!(run.reading.text, Text::Mapped(_))
}
