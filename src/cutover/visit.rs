//! A visit to a server before a cutover, with the proxy's own account: whether it answers, what it is, how
//! its clock goes, whether it takes writes, and what the account lacks for a fence and to stop replication.
//! Reads only.

use super::coordinator::Parts;
use super::guards::{Known, Offset, Side};
use super::rights::{lacks_for_fence, lacks_to_stop};
use crate::ask::{Asker, Manner, Row};
use jiff::Timestamp;
use tokio::time::Instant;

/// The clock is asked so often; the answer that came soonest counts.
const SAMPLES: usize = 3;

/// What was seen.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) version: String,
    pub(super) clock: Known<Offset>,
    /// It refuses the writes of ordinary users; not asked of a vtgate, which has no such switch.
    pub(super) is_read_only: bool,
    /// Rights that the account lacks to set a fence and pass it; nothing of a vtgate.
    pub(super) lacks: Vec<&'static str>,
    /// Likewise, to stop replication into it.
    pub(super) lacks_to_stop: Vec<&'static str>,
}

impl Visit {
    pub(super) fn is_vitess(&self) -> bool {
        self.version.contains("Vitess")
    }
}

/// Logs in, looks, and leaves.
///
/// # Errors
/// There is no account, or no way in.
pub(super) async fn visit(parts: &Parts, side: &Side) -> Result<Visit, String> {
    let Some(account) = &side.server.account else {
        let section = side.section;
        return Err(format!(
            "the proxy has no account there: set [{section}] user and password"
        ));
    };
    let opened = Asker::open(&*parts.dial, &side.server, account, &Manner::default()).await;
    let mut asker = opened.map_err(|error| error.to_string())?;
    let mut visit = Visit {
        version: asker.version().to_owned(),
        clock: clock(&mut asker).await,
        is_read_only: false,
        lacks: Vec::new(),
        lacks_to_stop: Vec::new(),
    };
    if !visit.is_vitess() {
        visit.is_read_only = is_read_only(&mut asker).await;
        // Where nobody tells, the server will when it is asked to.
        if let Ok(said) = asker.ask("SHOW GRANTS").await {
            let grants: Vec<String> = said.into_iter().flatten().flatten().collect();
            visit.lacks = lacks_for_fence(&visit.version, &grants);
            visit.lacks_to_stop = lacks_to_stop(&visit.version, &grants);
        }
    }
    asker.leave().await;
    Ok(visit)
}

async fn clock(asker: &mut Asker) -> Known<Offset> {
    // In another zone an hour of the year is there twice. Who refuses it is asked all the same.
    let _ = asker.ask("SET time_zone = '+00:00'").await;
    let mut best: Option<Offset> = None;
    for _ in 0..SAMPLES {
        let (asked, now) = (Instant::now(), Timestamp::now());
        let said = asker.ask("SELECT UNIX_TIMESTAMP(SYSDATE(6))").await;
        let way = asked.elapsed();
        let said = said.map_err(|error| format!("its clock cannot be read: {error}"))?;
        let theirs = micros(&said).ok_or("its clock cannot be read: it says no number")?;
        let here = now.as_microsecond() + i64::try_from(way.as_micros() / 2).unwrap_or(0);
        let offset = Offset {
            ahead_us: theirs.saturating_sub(here),
            way: way / 2,
        };
        if best.is_none_or(|best| offset.way < best.way) {
            best = Some(offset);
        }
    }
    best.ok_or_else(|| "its clock was not read".to_owned())
}

/// `1795645261.376620`, or without a fraction.
fn micros(rows: &[Row]) -> Option<i64> {
    let text = rows.first()?.first()?.as_deref()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<6}");
    let fraction: i64 = fraction.get(..6)?.parse().ok()?;
    let seconds: i64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(fraction)
}

/// `super_read_only` is never on without it.
async fn is_read_only(asker: &mut Asker) -> bool {
    let said = asker.ask("SELECT @@GLOBAL.read_only").await;
    let mut said = said.unwrap_or_default().into_iter().flatten().flatten();
    // Where it is a word, it is another one than OFF.
    said.any(|word| word != "0" && word != "OFF")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_with_and_without_a_fraction() {
        let read = |text: &str| micros(&[vec![Some(text.to_owned())]]);
        assert_eq!(read("1795645261.37"), Some(1_795_645_261_370_000));
        assert_eq!(read("1795645261"), Some(1_795_645_261_000_000));
        assert_eq!(read("soon"), None);
        assert_eq!(micros(&[]), None);
    }
}
