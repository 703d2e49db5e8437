//! Makes the shadow's row the primary's. Never the other way, and never on the primary.
//!
//! What a repair writes it reads before its place in the mirror's order is taken, and again in it. Rows on the wrong
//! shard, or on two, are told and left: a statement by the key does not reach them.

use super::gate::{Applied, Gate, Made, Make, Soon};
use super::plan::Plan;
use super::reader::{ReadError, Reader};
use super::rows::{How, Key, Row};
use super::settle::{Differs, Pair, Places};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The cells of one row, in the plan's order.
type Whole = Vec<Option<Vec<u8>>>;

/// Whether a statement by the key can repair it.
///
/// # Errors
/// It cannot, and why.
pub(super) fn can(how: How, plan: &Plan) -> Result<(), &'static str> {
    match how {
        How::Missing | How::Extra | How::Changed if !plan.key.is_empty() => Ok(()),
        How::Missing | How::Extra | How::Changed => Err("the table has no key to repair a row by"),
        How::Twice | How::Misplaced => Err(
            "a statement by its key does not reach it: take it off the wrong shard, then verify again",
        ),
    }
}

/// What repairs a row, from what both sides have now.
///
/// # Errors
/// A server could not be read.
pub(super) async fn statement(
    pair: &mut Pair,
    places: &Places<'_>,
    key: &Key,
) -> Result<Made, ReadError> {
    let one = std::slice::from_ref(key);
    let plan = places.primary.plan;
    let here = whole(&mut pair.primary, plan, key, &places.primary.lookup(one)).await?;
    let there = whole(&mut pair.shadow, plan, key, &places.shadow.lookup(one)).await?;
    let seen = here.as_ref().map(|(digest, _)| *digest);
    let statement = match (here, there) {
        (None, None) => None,
        (Some((mine, _)), Some((theirs, _))) if mine == theirs => None,
        (Some((_, cells)), None) => Some(places.shadow.insert(&cells)),
        (Some((_, cells)), Some(_)) => Some(places.shadow.update(key, &cells)),
        (None, Some(_)) => Some(places.shadow.delete(key)),
    };
    Ok(Made { seen, statement })
}

/// The row with exactly this key, and its digest.
async fn whole(
    reader: &mut Reader,
    plan: &Plan,
    key: &Key,
    ask: &str,
) -> Result<Option<(u128, Whole)>, ReadError> {
    let (mut found, mut buffer) = (None, Vec::new());
    reader.ask(ask).await?;
    while let Some(cells) = reader.next().await? {
        let row = Row::read(plan, &cells, &mut buffer);
        if row.key.canonical == key.canonical {
            let cells = cells.into_iter();
            let cells = cells.map(|cell| cell.map(<[u8]>::to_vec)).collect();
            found = Some((row.digest, cells));
        }
    }
    Ok(found)
}

/// Repairs a row in the mirror's order.
///
/// # Errors
/// It was not repaired, and why.
pub(super) async fn apply(
    pair: &Arc<Mutex<Pair>>,
    places: &Places<'_>,
    gate: &Gate,
    one: &Differs,
) -> Result<Applied, String> {
    can(one.how, places.primary.plan)?;
    let make = || -> Soon<'_, Result<Made, String>> {
        let pair = Arc::clone(pair);
        Box::pin(async move {
            let mut pair = pair.lock().await;
            let made = statement(&mut pair, places, &one.key).await;
            made.map_err(|fault| fault.to_string())
        })
    };
    let make: Make<'_> = Box::new(make);
    gate.around().apply(places.table, make).await
}
