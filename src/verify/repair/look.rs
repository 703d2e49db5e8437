//! Rows as both sides have them, whole: what a repair is made of.

use super::super::reader::{ReadError, Reader};
use super::super::rows::{Key, Row};
use super::super::settle::{Pair, Places};
use super::super::statements::Place;
use super::super::types::Form;
use super::super::value;
use super::Made;
use std::collections::{HashMap, HashSet};

/// A row as one side has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// The digest of all its values.
    pub(super) digest: u128,
    /// Of each of them, in the plan's order.
    pub(super) columns: Vec<u128>,
    /// Its cells, as they are to be written.
    pub(super) cells: Vec<Option<Vec<u8>>>,
}

/// Rows by their canonical key.
type Rows = HashMap<Box<[u8]>, Whole>;

/// What both sides have of some keys.
#[derive(Debug, Default)]
pub(super) struct Look {
    here: Rows,
    there: Rows,
    /// The primary has them, though a lookup by their keys does not find them there.
    hidden: HashSet<Box<[u8]>>,
}

impl Look {
    /// Reads both sides.
    pub(super) async fn of(
        pair: &mut Pair,
        places: &Places<'_>,
        keys: &[Key],
    ) -> Result<Self, ReadError> {
        let here = rows(&mut pair.primary, &places.primary, keys).await?;
        let there = rows(&mut pair.shadow, &places.shadow, keys).await?;
        let extra = keys.iter().filter(|key| !here.contains_key(&key.canonical));
        let extra: Vec<Key> = extra.cloned().collect();
        Ok(Self {
            hidden: hidden(&mut pair.primary, &places.primary, &extra).await?,
            here,
            there,
        })
    }

    /// Bytes of all that was read.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.here.values().chain(self.there.values());
        let cells = rows.flat_map(|row| row.cells.iter().flatten());
        cells.map(Vec::len).sum()
    }

    /// The digest of the primary's row; none where it has none.
    pub(super) fn seen(&self, key: &Key) -> Option<u128> {
        self.here.get(&key.canonical).map(|row| row.digest)
    }

    /// Whether the shadow has it where a lookup finds it.
    pub(super) fn is_there(&self, key: &Key) -> bool {
        self.there.contains_key(&key.canonical)
    }

    /// What makes the shadow's row the primary's; `None` where they are the same.
    ///
    /// # Errors
    /// Nothing can, and why.
    pub(super) fn made(
        &self,
        places: &Places<'_>,
        key: &Key,
    ) -> Result<Option<Made>, &'static str> {
        let here = self.here.get(&key.canonical);
        let there = self.there.get(&key.canonical);
        if here.is_none() && self.hidden.contains(&key.canonical) {
            return Err(HIDDEN);
        }
        made(&places.shadow, key, here, there)
    }

    /// The columns of texts that a repair of this row would write, and that hold what a server says where it
    /// cannot tell a character in UTF-8.
    pub(super) fn doubtful(&self, place: &Place<'_>, key: &Key) -> Vec<usize> {
        let Some(here) = self.here.get(&key.canonical) else {
            return Vec::new();
        };
        let there = self.there.get(&key.canonical);
        let columns = place.plan.columns.iter().enumerate();
        let is_doubtful = |at: usize, form: Form| {
            let cell = here.cells.get(at).and_then(Option::as_deref);
            let writes = there.is_none_or(|there| there.columns.get(at) != here.columns.get(at));
            form == Form::Text && writes && cell.is_some_and(|cell| cell.contains(&b'?'))
        };
        let doubtful = columns.filter(|(at, column)| is_doubtful(*at, column.form));
        doubtful.map(|(at, _)| at).collect()
    }
}

fn made(
    place: &Place<'_>,
    key: &Key,
    here: Option<&Whole>,
    there: Option<&Whole>,
) -> Result<Option<Made>, &'static str> {
    Ok(Some(match (here, there) {
        (None, None) => return Ok(None),
        (Some(mine), Some(theirs)) if mine.columns == theirs.columns => return Ok(None),
        (Some(mine), None) => Made::of(place.insert(&mine.cells)),
        (None, Some(_)) => Made::of(place.delete(key)),
        (Some(mine), Some(theirs)) => {
            let columns = mine.columns.iter().enumerate();
            let differ = columns.filter(|(at, digest)| theirs.columns.get(*at) != Some(digest));
            let differ: Vec<usize> = differ.map(|(at, _)| at).collect();
            let update = place.update(key, &mine.cells, &differ);
            let update =
                update.ok_or("only what a server computes differs: its expression does")?;
            Made {
                statement: update,
                instead: vec![place.delete(key), place.insert(&mine.cells)],
            }
        }
    }))
}

const HIDDEN: &str =
    "the primary does not find it by its key, and finds it by the same key in other words";

/// Those of these keys that the primary has after all: no row is taken away because one wording did not find it.
async fn hidden(
    primary: &mut Reader,
    place: &Place<'_>,
    keys: &[Key],
) -> Result<HashSet<Box<[u8]>>, ReadError> {
    let (mut found, mut buffer) = (HashSet::new(), Vec::new());
    if keys.is_empty() {
        return Ok(found);
    }
    primary.ask(&place.in_other_words(keys)).await?;
    while let Some(cells) = primary.next().await? {
        found.insert(Row::read(place.plan, &cells, &mut buffer).key.canonical);
    }
    Ok(found)
}

async fn rows(reader: &mut Reader, place: &Place<'_>, keys: &[Key]) -> Result<Rows, ReadError> {
    let (mut found, mut buffer) = (Rows::new(), Vec::new());
    let floats: Vec<usize> = place.floats().map(|(at, _)| at).collect();
    let plan = place.plan;
    reader.ask(&place.whole(keys)).await?;
    while let Some(mut cells) = reader.next().await? {
        let exact = cells.split_off(plan.columns.len().min(cells.len()));
        let row = Row::read(plan, &cells, &mut buffer);
        if !keys.iter().any(|key| key.canonical == row.key.canonical) {
            continue;
        }
        let mut columns = Vec::with_capacity(plan.columns.len());
        for (at, column) in plan.columns.iter().enumerate() {
            buffer.clear();
            value::write(&mut buffer, column.form, cells.get(at).copied().flatten());
            columns.push(value::digest(&buffer));
        }
        for (nth, at) in floats.iter().enumerate() {
            if let (Some(cell), Some(exact)) = (cells.get_mut(*at), exact.get(nth)) {
                *cell = *exact;
            }
        }
        let cells = cells.into_iter();
        let whole = Whole {
            digest: row.digest,
            columns,
            cells: cells.map(|cell| cell.map(<[u8]>::to_vec)).collect(),
        };
        found.insert(row.key.canonical, whole);
    }
    Ok(found)
}

/// Whether a column of the primary's row, told in UTF-8, is all that it is.
pub(super) async fn survives(
    primary: &mut Reader,
    place: &Place<'_>,
    key: &Key,
    at: usize,
) -> Result<bool, ReadError> {
    let first = |rows: Vec<Vec<Option<String>>>| rows.into_iter().next()?.into_iter().next()?;
    let Some(ask) = place.charset(key, at) else {
        return Ok(false);
    };
    let Some(charset) = first(primary.all(&ask).await?) else {
        // The row is gone: whoever repairs looks again.
        return Ok(true);
    };
    if charset == "utf8mb4" {
        return Ok(true);
    }
    let Some(ask) = place.survives(key, at, &charset) else {
        return Ok(false);
    };
    Ok(first(primary.all(&ask).await?).is_none_or(|same| same == "1"))
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::{Plan, Planned, Way};
    use super::super::super::rows::key_alone;
    use super::super::super::statements::Side;
    use super::*;

    fn plan() -> Plan {
        let column = |name: &str, form| Planned {
            name: name.into(),
            on_shadow: name.into(),
            form,
            generated: false,
            renews: false,
            binary: false,
            lossy: [None, None],
        };
        Plan {
            columns: vec![
                column("id", Form::Number),
                column("v", Form::Text),
                column("w", Form::Text),
            ],
            key: vec![0],
            way: Way::Ranges,
            spread: None,
        }
    }

    fn whole(v: &str, w: &str) -> Whole {
        let cells: Vec<Option<Vec<u8>>> = ["1", v, w]
            .iter()
            .map(|cell| Some(cell.as_bytes().to_vec()))
            .collect();
        Whole {
            digest: 0,
            columns: cells
                .iter()
                .flatten()
                .map(|cell| value::digest(cell))
                .collect(),
            cells,
        }
    }

    fn statement(here: Option<&Whole>, there: Option<&Whole>) -> Option<String> {
        let plan = plan();
        let place = Place {
            plan: &plan,
            side: Side::Shadow,
            database: "app",
            table: "t",
            condition: None,
        };
        let key = key_alone(&plan, &[Some(b"1")]);
        made(&place, &key, here, there)
            .unwrap()
            .map(|made| made.statement)
    }

    #[test]
    fn the_shadows_row_becomes_the_primarys_and_never_the_other_way() {
        let (mine, theirs) = (whole("a?", "same"), whole("b", "same"));
        let told = |here, there| statement(here, there).unwrap_or_default();
        assert_eq!(
            told(Some(&mine), Some(&theirs)),
            "UPDATE `app`.`t` SET `v` = 'a?' WHERE `id` = 1"
        );
        assert_eq!(
            told(Some(&mine), None),
            "INSERT INTO `app`.`t` (`id`, `v`, `w`) VALUES (1, 'a?', 'same')"
        );
        assert_eq!(
            told(None, Some(&theirs)),
            "DELETE FROM `app`.`t` WHERE `id` = 1"
        );
        assert_eq!(statement(Some(&mine), Some(&mine)), None);
        assert_eq!(statement(None, None), None);
    }

    #[test]
    fn only_a_text_that_would_be_written_is_doubted() {
        let plan = plan();
        let place = Place {
            plan: &plan,
            side: Side::Primary,
            database: "app",
            table: "t",
            condition: None,
        };
        let key = key_alone(&plan, &[Some(b"1")]);
        let look = |here: Whole, there: Option<Whole>| Look {
            here: [(key.canonical.clone(), here)].into(),
            hidden: HashSet::new(),
            there: there
                .map(|row| (key.canonical.clone(), row))
                .into_iter()
                .collect(),
        };
        let doubtful = |look: &Look| look.doubtful(&place, &key);
        assert_eq!(
            doubtful(&look(whole("a?", "?"), Some(whole("b", "?")))),
            [1]
        );
        assert_eq!(doubtful(&look(whole("a", "?"), None)), [2]);
        assert!(doubtful(&look(whole("a", "?"), Some(whole("b", "?")))).is_empty());
    }
}
