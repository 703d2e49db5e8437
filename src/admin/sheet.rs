//! Lists as a sheet: CSV by RFC 4180, for a program that calculates.
//!
//! A cell that such a program would take for a formula gets a quote before it: statements and
//! error texts come from whoever talks to the database.

use super::answer::Refusal;
use crate::ledger::{LIMIT_MAX, Page};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// Rows of a sheet at most.
pub(super) const ROWS_MAX: u32 = 10_000;

/// A sheet's bytes at most: with the row that passes it the sheet ends.
const BYTES_MAX: usize = 32 << 20;

/// In which form a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Csv,
}

impl Form {
    /// By the query's `format`, or by `accept` where it says nothing.
    pub(super) fn asked(format: Option<&str>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let accepts = || {
            let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
            let kind = |one: &str| one.split(';').next().map(str::trim) == Some("text/csv");
            accept.is_some_and(|accept| accept.split(',').any(kind))
        };
        match format {
            Some("json") => Ok(Self::Json),
            Some("csv") => Ok(Self::Csv),
            Some(other) => Err(Refusal::bad(format!(
                "format: found {other:?}; it is one of json, csv"
            ))),
            None if accepts() => Ok(Self::Csv),
            None => Ok(Self::Json),
        }
    }
}

/// A column: its title, and where its cells stand in an item.
type Columns = [(&'static str, &'static str)];

/// Of divergences.
pub(super) const DIVERGENCES: [(&str, &str); 22] = [
    ("id", "/id"),
    ("at", "/at"),
    ("kind", "/kind"),
    ("also", "/also"),
    ("detail", "/detail"),
    ("columns", "/columns"),
    ("finding_id", "/finding_id"),
    ("follows", "/follows"),
    ("rule", "/rule"),
    ("protocol", "/protocol"),
    ("user", "/user"),
    ("database", "/database"),
    ("tables", "/tables"),
    ("digest", "/digest"),
    ("fingerprint", "/fingerprint"),
    ("statement", "/statement"),
    ("primary_rows", "/primary/rows"),
    ("primary_error", "/primary/error/message"),
    ("primary_us", "/primary/latency_us"),
    ("shadow_rows", "/shadow/rows"),
    ("shadow_error", "/shadow/error/message"),
    ("shadow_us", "/shadow/latency_us"),
];

/// Of findings.
pub(super) const FINDINGS: [(&str, &str); 24] = [
    ("id", "/id"),
    ("state", "/state"),
    ("kind", "/kind"),
    ("impact", "/impact"),
    ("count", "/count"),
    ("commands", "/commands"),
    ("fingerprint", "/fingerprint"),
    ("digest", "/digest"),
    ("protocol", "/protocol"),
    ("class", "/class"),
    ("tables", "/tables"),
    ("first_seen", "/first_seen"),
    ("last_seen", "/last_seen"),
    ("follows", "/follows"),
    ("cause_id", "/cause_id"),
    ("cause", "/cause/text"),
    ("plan_class", "/plan_class"),
    ("rule", "/rule"),
    ("floor_rate", "/floor/rate"),
    ("at_or_below_floor", "/floor/at_or_below"),
    ("expired", "/expired"),
    ("who", "/who"),
    ("why", "/why"),
    ("until", "/until"),
];

/// Of findings rolled up by fingerprint.
pub(super) const BY_FINGERPRINT: [(&str, &str); 10] = [
    ("fingerprint", "/fingerprint"),
    ("digest", "/digest"),
    ("state", "/state"),
    ("impact", "/impact"),
    ("findings", "/findings"),
    ("count", "/count"),
    ("commands", "/commands"),
    ("kinds", "/kinds"),
    ("first_seen", "/first_seen"),
    ("last_seen", "/last_seen"),
];

/// Of findings rolled up by table.
pub(super) const BY_TABLE: [(&str, &str); 8] = [
    ("table", "/table"),
    ("state", "/state"),
    ("impact", "/impact"),
    ("findings", "/findings"),
    ("count", "/count"),
    ("kinds", "/kinds"),
    ("first_seen", "/first_seen"),
    ("last_seen", "/last_seen"),
];

/// A sheet, and the cursor of what did not fit.
#[derive(Debug)]
pub(super) struct Sheet {
    text: Vec<u8>,
    next: Option<i64>,
}

impl IntoResponse for Sheet {
    fn into_response(self) -> Response {
        let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
        let mut response = ([(header::CONTENT_TYPE, kind)], self.text).into_response();
        if let Some(next) = self.next {
            response
                .headers_mut()
                .insert("x-understudy-next", HeaderValue::from(next));
        }
        response
    }
}

/// Writes at most so many rows of a list that comes in pages: `page` is told its limit and after
/// which cursor it begins.
pub(super) fn of_pages(
    columns: &Columns,
    rows: u32,
    mut page: impl FnMut(u32, Option<i64>) -> Result<Page, String>,
) -> Result<Sheet, String> {
    let fault = |why: csv::Error| why.to_string();
    let mut left = rows.min(ROWS_MAX);
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let titles = columns.iter().map(|(title, _)| *title);
    writer.write_record(titles).map_err(fault)?;
    let mut next = None;
    while left > 0 {
        let found = page(left.min(LIMIT_MAX), next)?;
        for item in &found.items {
            let cells = columns.iter().map(|(_, place)| cell(item.pointer(place)));
            writer.write_record(cells).map_err(fault)?;
        }
        left = left.saturating_sub(u32::try_from(found.items.len()).unwrap_or(u32::MAX));
        next = found.next;
        writer.flush().map_err(|why| why.to_string())?;
        if next.is_none() || writer.get_ref().len() > BYTES_MAX {
            break;
        }
    }
    let text = writer.into_inner().map_err(|why| why.to_string())?;
    Ok(Sheet { text, next })
}

/// A value on one cell: lists with commas, numbers by name as `name=number`.
fn cell(value: Option<&Value>) -> String {
    let plain = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        None => String::new(),
        Some(Value::Array(list)) => guarded(list.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Some(Value::Object(fields)) => {
            let named = fields
                .iter()
                .map(|(name, value)| format!("{name}={}", plain(value)));
            guarded(named.collect::<Vec<_>>().join(", "))
        }
        Some(Value::String(text)) => guarded(text.clone()),
        Some(other) => plain(other),
    }
}

/// No cell is a formula.
fn guarded(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sheet(items: Vec<Value>) -> String {
        let page = Page { items, next: None };
        let columns = [("a", "/a"), ("b", "/b/c")];
        let sheet = of_pages(&columns, 10, |_, _| Ok(page.clone())).unwrap();
        String::from_utf8(sheet.text).unwrap()
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let items = vec![
            json!({"a": "one, \"two\"\nthree", "b": {"c": 1.5}}),
            json!({"a": ["x", "y"], "b": {"c": {"value": 3, "rows": 1}}}),
            json!({"a": null}),
        ];
        assert_eq!(
            sheet(items),
            "a,b\r\n\"one, \"\"two\"\"\nthree\",1.5\r\n\"x, y\",\"rows=1, value=3\"\r\n,\r\n"
        );
    }

    #[test]
    fn no_cell_is_a_formula() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            let cell = cell(Some(&json!(text)));
            assert_eq!(cell, format!("'{text}"));
            assert!(super::cell(Some(&json!([text]))).starts_with('\''));
        }
        assert_eq!(cell(Some(&json!("a=1"))), "a=1");
        assert_eq!(cell(Some(&json!(-1))), "-1");
    }

    #[test]
    fn pages_are_walked_until_the_end_or_the_limit() {
        let columns = [("a", "/a")];
        let mut asked = Vec::new();
        let mut walk = |rows| {
            of_pages(&columns, rows, |limit, before| {
                asked.push((limit, before));
                let from = before.unwrap_or(0);
                let to = (from + i64::from(limit)).min(700);
                Ok(Page {
                    items: (from..to).map(|n| json!({"a": n})).collect(),
                    next: (to < 700).then_some(to),
                })
            })
            .unwrap()
        };
        let all = walk(10_000);
        assert_eq!(String::from_utf8(all.text).unwrap().lines().count(), 701);
        assert_eq!(all.next, None);
        let some = walk(600);
        assert_eq!(String::from_utf8(some.text).unwrap().lines().count(), 601);
        assert_eq!(some.next, Some(600));
        assert_eq!(
            asked,
            [(500, None), (500, Some(500)), (500, None), (100, Some(500))]
        );
    }

    #[test]
    fn the_form_is_asked_for_by_query_or_by_accept() {
        let accepting = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            headers
        };
        for (format, accept, form) in [
            (None, "*/*", Form::Json),
            (None, "text/csv", Form::Csv),
            (None, "text/csv;q=0.9, */*", Form::Csv),
            (Some("json"), "text/csv", Form::Json),
            (Some("csv"), "*/*", Form::Csv),
        ] {
            let asked = Form::asked(format, &accepting(accept)).unwrap();
            assert_eq!(asked, form, "{format:?} {accept}");
        }
        assert!(Form::asked(Some("xml"), &HeaderMap::new()).is_err());
    }
}
