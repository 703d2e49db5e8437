//! What becomes of the rows of a table that stay different where a repair was asked for: it is told, or run, and
//! what was run is looked at again.

use super::board::Found;
use super::reader::ReadError;
use super::repair;
use super::rows::{How, Suspect};
use super::run::said;
use super::settle::{Broke, Differs, Pair, Places, settle};
use super::table::TableRun;
use super::walk::{Ended, Walk, Walker};
use super::wish::Repair;
use std::sync::Arc;

impl TableRun<'_> {
    /// Tells, or runs, what repairs the rows that differ; each is then looked at again.
    pub(super) async fn repair<'b>(
        &self,
        walk: &Walk<'b>,
        places: &Places<'b>,
        walker: Walker<'b>,
    ) -> Result<(), Ended> {
        let mut different = walker.different;
        if different.is_empty() {
            return Ok(());
        }
        let open = async || {
            Ok::<_, ReadError>(Pair {
                primary: walk.primary.open().await?,
                shadow: walk.shadow.open().await?,
            })
        };
        let pair = Arc::new(tokio::sync::Mutex::new(open().await.map_err(Ended::Fault)?));
        // What stands in the way of another goes first.
        different.sort_by_key(|one| one.how != How::Extra);
        self.set(|one| one.rows.clear());
        let (mut told, mut done) = (Vec::new(), Vec::new());
        for one in different {
            walk.gate.pass().await.map_err(Ended::Stopped)?;
            let columns = one
                .columns
                .iter()
                .filter_map(|at| places.primary.plan.columns.get(*at));
            let mut row = Found {
                how: one.how.name().to_owned(),
                key: walk.tells_keys.then(|| places.primary.is(&one.key)),
                columns: columns.map(|column| column.name.clone()).collect(),
                repair: None,
                repaired: None,
            };
            if self.run.meant.repair == Repair::Plan {
                let mut pair = pair.lock().await;
                row.repair = match repair::can(one.how, places.primary.plan) {
                    Ok(()) => {
                        let made = repair::statement(&mut pair, places, &one.key).await;
                        made.map_err(Ended::Fault)?.statement
                    }
                    Err(why) => Some(format!("-- {}: {why}", places.primary.is(&one.key))),
                };
            } else {
                row.repaired = Some(match repair::apply(&pair, places, walk.gate, &one).await {
                    Ok(_) => {
                        done.push(one.clone());
                        "done".to_owned()
                    }
                    Err(why) => format!("not repaired: {why}"),
                });
            }
            told.push(row);
        }
        self.set(|one| one.rows = told);
        self.look_after_repairs(walk, places, &pair, done).await
    }

    /// What was repaired is settled once more: only what is the same then counts.
    async fn look_after_repairs(
        &self,
        walk: &Walk<'_>,
        places: &Places<'_>,
        pair: &tokio::sync::Mutex<Pair>,
        done: Vec<Differs>,
    ) -> Result<(), Ended> {
        if done.is_empty() {
            return Ok(());
        }
        let name = format!("{}.{}", places.primary.database, places.primary.table);
        let suspects: Vec<Suspect> = done
            .iter()
            .map(|one| Suspect {
                key: one.key.clone(),
                how: one.how,
            })
            .collect();
        let mut pair = pair.lock().await;
        let settled = settle(&mut pair, places, walk.gate, suspects, walk.limits.settle).await;
        let settled = match settled {
            Ok(settled) => settled,
            Err(Broke::Stopped(stopped)) => return Err(Ended::Stopped(stopped)),
            Err(Broke::Read(fault)) => return Err(Ended::Fault(fault)),
        };
        let what = format!(
            "repaired {} rows of {name} on {} ({} were run and still differ)",
            settled.same,
            self.run.servers.1,
            settled.different.len()
        );
        let why = format!("verification {}", self.run.id);
        said(self.parts.records.repaired(&self.run.who, &what, &why));
        tracing::info!("{what}");
        self.set(|one| one.repaired = settled.same);
        Ok(())
    }
}
