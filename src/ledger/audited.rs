//! The audit: every request that would change something, who made it, from where, and how it was answered. Those
//! that were refused too.

use super::findings::{Page, bounded};
use super::triage::time;
use rusqlite::{Connection, Transaction, params};
use serde_json::json;

/// One request, answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// When it came.
    pub at: jiff::Timestamp,
    /// Whose token it brought; nothing where it proved to be nobody's.
    pub who: Option<String>,
    /// Who its body says that it is of.
    pub said: Option<String>,
    /// The address that it came from.
    pub from: String,
    /// Method and path.
    pub what: String,
    /// What it asked for, without a text that a person wrote.
    pub body: String,
    /// The HTTP status of its answer; nothing where whoever asked did not wait for one.
    pub status: Option<u16>,
}

/// Writes one down; its number.
pub(super) fn write(transaction: &Transaction<'_>, one: &Audited) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO requests (at, who, said, address, what, body, status) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            one.at.as_microsecond(),
            one.who,
            one.said,
            one.from,
            one.what,
            one.body,
            one.status
        ])?;
    Ok(transaction.last_insert_rowid())
}

/// A page of them, newest first.
pub(super) fn page(
    connection: &Connection,
    limit: u32,
    before: Option<i64>,
) -> rusqlite::Result<Page> {
    let limit = bounded(limit);
    let mut statement = connection.prepare_cached(
        "SELECT id, at, who, said, address, what, body, status FROM requests
         WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(
        params![before.unwrap_or(i64::MAX), i64::from(limit) + 1],
        |row| {
            let id: i64 = row.get(0)?;
            let text = |at: usize| row.get::<_, Option<String>>(at);
            let item = json!({
                "id": id,
                "at": time(row.get(1)?),
                "who": text(2)?,
                "said": text(3)?,
                "from": text(4)?,
                "what": text(5)?,
                "body": text(6)?,
                "status": row.get::<_, Option<u16>>(7)?,
            });
            Ok((id, item))
        },
    )?;
    Ok(Page::of(rows.collect::<Result<_, _>>()?, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(number: u16) -> Audited {
        Audited {
            at: jiff::Timestamp::UNIX_EPOCH,
            who: (number > 1).then(|| "alice".to_owned()),
            said: None,
            from: "127.0.0.1:9".to_owned(),
            what: format!("PATCH /api/v1/findings/{number}"),
            body: "state=fixed".to_owned(),
            status: (number != 2).then_some(200 + number),
        }
    }

    #[test]
    fn they_are_told_newest_first_page_by_page() {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&mut connection).unwrap();
        let transaction = connection.transaction().unwrap();
        for number in 1..=3 {
            assert_eq!(
                write(&transaction, &one(number)).unwrap(),
                i64::from(number)
            );
        }
        transaction.commit().unwrap();
        let first = page(&connection, 2, None).unwrap();
        let of = |page: &Page, field: &str| {
            let told = page.items.iter().map(|item| item[field].clone());
            told.collect::<Vec<_>>()
        };
        assert_eq!(of(&first, "id"), [json!(3), json!(2)]);
        assert_eq!(of(&first, "status"), [json!(203), json!(null)]);
        assert_eq!(first.next, Some(2));
        let rest = page(&connection, 2, first.next).unwrap();
        assert_eq!(rest.next, None);
        assert_eq!(
            rest.items,
            [json!({
                "id": 1, "at": "1970-01-01T00:00:00Z", "who": null, "said": null, "from": "127.0.0.1:9",
                "what": "PATCH /api/v1/findings/1", "body": "state=fixed", "status": 201,
            })]
        );
    }
}
