//! What becomes of the rows of a table that stay different where a repair was asked for: it is told, or run, and
//! what was run is looked at again.
//!
//! A table that was repaired is not called equal before all of it was read again.

use super::board::Found;
use super::repair::{self, Became, Repairs};
use super::rows::Suspect;
use super::run::said;
use super::settle::{Broke, Differs, Places, settle};
use super::table::TableRun;
use super::walk::{Ended, Walk, Walker};
use super::wish::Repair;
use crate::words::count;

impl TableRun<'_> {
    /// Tells, or runs, what repairs the rows that differ; each is then looked at again.
    pub(super) async fn repair<'b>(
        &self,
        walk: &Walk<'b>,
        places: &Places<'b>,
        walker: Walker<'b>,
    ) -> Result<(), Ended> {
        let known = walker.cursor().differences.sum();
        let different = walker.different;
        let earlier = known.saturating_sub(different.len() as u64);
        if earlier > 0 {
            self.set(|one| {
                one.not_covered.push(format!(
                    "a repair of {earlier} rows that were found before a restart: verify the table again"
                ));
            });
        }
        if different.is_empty() {
            return Ok(());
        }
        if self.run.meant.repair == Repair::Plan {
            return self.plan(walk, places, &different).await;
        }
        let repairs = Repairs {
            places,
            gate: walk.gate,
            doors: (walk.primary, walk.shadow),
            dial: &self.parts.dial,
            shadow: &self.parts.roles.shadow,
            records: &self.parts.records,
            run: (self.run.id, &self.run.who),
            tells: walk.tells_keys,
        };
        let became = repairs.apply(&different).await.map_err(Ended::Stopped)?;
        let mut told = Vec::with_capacity(different.len());
        let mut again = Vec::new();
        for (nth, one) in different.iter().enumerate() {
            let mut row = found(walk, places, one);
            row.repaired = became.get(nth).map(Became::told);
            told.push(row);
            // What nobody knows is looked at as well.
            if !matches!(became.get(nth), None | Some(Became::Not(_))) {
                again.push(one);
            }
        }
        self.set(|one| one.rows = told);
        let ran = became.iter().filter(|one| **one != Became::Same);
        let ran = ran.filter(|one| !matches!(one, Became::Not(_))).count();
        self.look_after_repairs(walk, places, again, ran).await
    }

    /// The statements alone.
    async fn plan(
        &self,
        walk: &Walk<'_>,
        places: &Places<'_>,
        different: &[Differs],
    ) -> Result<(), Ended> {
        walk.gate.pass().await.map_err(Ended::Stopped)?;
        let planned = async {
            let mut pair = walk.pair().await?;
            let shadow = &self.parts.roles.shadow;
            let shadow = (&self.parts.dial, shadow, walk.tells_keys);
            repair::plan(&mut pair, places, shadow, different, &self.run.bytes_told).await
        };
        let planned = planned.await.map_err(Ended::Fault)?;
        let mut told = Vec::with_capacity(different.len());
        for (nth, one) in different.iter().enumerate() {
            let mut row = found(walk, places, one);
            row.repair = match planned.get(nth) {
                Some(Ok(statement)) => statement.clone(),
                Some(Err(why)) => Some(format!("-- {}: {why}", places.primary.is(&one.key))),
                None => None,
            };
            told.push(row);
        }
        self.set(|one| one.rows = told);
        Ok(())
    }

    /// What was repaired is settled once more: only what is the same then counts.
    async fn look_after_repairs(
        &self,
        walk: &Walk<'_>,
        places: &Places<'_>,
        again: Vec<&Differs>,
        ran: usize,
    ) -> Result<(), Ended> {
        if again.is_empty() {
            return Ok(());
        }
        let suspects: Vec<Suspect> = again
            .iter()
            .map(|one| Suspect {
                key: one.key.clone(),
                how: one.how,
            })
            .collect();
        let mut pair = walk.pair().await.map_err(Ended::Fault)?;
        let settled = settle(&mut pair, places, walk.gate, suspects, walk.limits.settle).await;
        let settled = match settled {
            Ok(settled) => settled,
            Err(Broke::Stopped(stopped)) => return Err(Ended::Stopped(stopped)),
            Err(Broke::Read(fault)) => return Err(Ended::Fault(fault)),
            Err(Broke::NoInstant(why)) => return Err(Ended::Unread(why)),
        };
        self.set(|one| {
            one.repaired = settled.same;
            if ran > 0 {
                one.not_covered.push(format!(
                    "what the {ran} repairs may have done beside their rows: verify the table again"
                ));
            }
        });
        let name = format!("{}.{}", places.primary.database, places.primary.table);
        let what = format!(
            "repaired {} of {name} on {}: {}",
            rows(ran as u64),
            self.run.servers.1,
            mended(
                settled.same,
                settled.different.len() as u64,
                settled.unsettled
            )
        );
        let why = format!("verification {}", self.run.id);
        said(self.parts.records.repaired(&self.run.who, &what, &why));
        tracing::info!("{what}");
        Ok(())
    }
}

fn rows(n: u64) -> String {
    format!("{} {}", count(n), if n == 1 { "row" } else { "rows" })
}

/// What became of the rows of a repair, in words.
fn mended(same: u64, different: u64, unsettled: u64) -> String {
    let parts = [
        (different, "still other than the primary's"),
        (unsettled, "changed too often to tell"),
    ];
    let parts = parts.iter().filter(|(n, _)| *n > 0);
    let parts: Vec<String> = parts
        .map(|(n, how)| format!("{} {how}", count(*n)))
        .collect();
    match parts.as_slice() {
        [] => "as on the primary now".to_owned(),
        parts => format!(
            "{} as on the primary now, {}",
            count(same),
            parts.join(", ")
        ),
    }
}

fn found(walk: &Walk<'_>, places: &Places<'_>, one: &Differs) -> Found {
    let columns = one.columns.iter();
    let columns = columns.filter_map(|at| places.primary.plan.columns.get(*at));
    let [primary, shadow] = &one.values;
    Found {
        how: one.how.name().to_owned(),
        key: walk.tells_keys.then(|| places.primary.is(&one.key)),
        columns: columns.map(|column| column.name.clone()).collect(),
        primary: primary.clone(),
        shadow: shadow.clone(),
        repair: None,
        repaired: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_repair_is_said_and_nothing_that_did_not_happen() {
        assert_eq!(rows(1), "1 row");
        assert_eq!(rows(1_200), "1,200 rows");
        assert_eq!(mended(3, 0, 0), "as on the primary now");
        assert_eq!(
            mended(3, 2, 1),
            "3 as on the primary now, 2 still other than the primary's, 1 changed too often to tell"
        );
        assert_eq!(
            mended(0, 0, 1),
            "0 as on the primary now, 1 changed too often to tell"
        );
    }
}
