//! The tables that may hold other rows on the shadow: since when, why, and the verification that would lift that.

use super::bits::{age, heads, list, number, text, wide};
use super::verification;
use crate::words::{count, harmless};
use maud::{Markup, html};
use serde_json::Value;

/// Tables that are shown, those that were tainted last.
const MOST: usize = 50;

/// What `GET /api/v1/taints` tells, for people.
pub(super) fn card(taints: &[Value]) -> Markup {
    let mut shown: Vec<&Value> = taints.iter().collect();
    shown.sort_by_key(|taint| std::cmp::Reverse(text(taint, "/since")));
    shown.truncate(MOST);
    html! {
        h2 { "Tainted tables " @if !taints.is_empty() { span class="soft" { (count(taints.len() as u64)) } } }
        @if taints.is_empty() {
            p class="soft" { "No table is tainted: the mirror knows of no write that the shadow lacks." }
        } @else {
            p { "The shadow may lack a write of these, so what differs on them is not compared. "
                "A verification that reads all of a table and finds it equal lifts its taint; what you know to be the same, "
                code { "understudy taints clear" } " does." }
            (wide("Tainted tables", &html! {
                table class="list cards" role="table" {
                    caption class="unseen" { "Tainted tables" }
                    (heads(&[("Table", ""), ("Since", ""), ("Why", ""), ("Followed", "number"), ("Lift it", "")]))
                    tbody role="rowgroup" { @for taint in &shown { (row(taint)) } }
                }
            }))
            @if taints.len() > MOST {
                p class="soft" { (count((taints.len() - MOST) as u64)) " more: " code { "understudy taints" } " has all." }
            }
        }
    }
}

fn row(taint: &Value) -> Markup {
    let (name, finding) = (text(taint, "/name"), number(taint, "/finding_id"));
    // A whole database, or all of them: no verification of one table lifts that.
    let is_one = text(taint, "/table") != "*";
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (harmless(name)) }
            td role="cell" data-label="since" { (age(text(taint, "/since"))) }
            td role="cell" class="full words" { (harmless(text(taint, "/cause")))
                @if finding > 0 { " " a href={"/ui/findings/" (finding)} { "Finding " (finding) } } }
            td role="cell" data-label="followed" class="number" { (count(number(taint, "/followed/count"))) }
            td role="cell" {
                @if is_one { a href=(verification::of_tables(&[name])) { "Verify" span class="unseen" { " " (harmless(name)) } } }
                @else { span class="soft" { "by hand" } }
            }
        }
    }
}

/// The tables that a finding tainted, each with the verification that would lift it.
pub(super) fn of_finding(found: &Value) -> Markup {
    let names: Vec<&str> = list(found, "/tainted")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    html! {
        @if !names.is_empty() {
            dt { "Tainted" }
            dd { @for name in &names { (harmless(name)) " " }
                "may lack what this wrote: " a href=(verification::of_tables(&names)) { "verify" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_taint_says_why_and_leads_to_what_lifts_it() {
        let taint = |name: &str, table: &str, finding: Value| {
            json!({"name": name, "table": table, "since": "2026-01-01T00:00:00Z", "cause": "a <lost> write",
                "finding_id": finding, "followed": {"count": 1_200, "last": null}})
        };
        let taints = [
            taint("app.t", "t", json!(7)),
            taint("app.*", "*", Value::Null),
        ];
        let shown = card(&taints).into_string();
        for part in [
            "role=\"rowheader\">app.t</th>",
            "a &lt;lost&gt; write <a href=\"/ui/findings/7\">",
            "1,200",
            "href=\"/ui/verification?tables=app.t#begin\"",
        ] {
            assert!(shown.contains(part), "{part}:\n{shown}");
        }
        assert_eq!(shown.matches("/ui/verification").count(), 1, "{shown}");
        assert!(card(&[]).into_string().contains("No table is tainted"));
        let found = of_finding(&json!({"tainted": ["app.t", "app.u"]})).into_string();
        assert!(found.contains("?tables=app.t+app.u#begin"), "{found}");
        assert_eq!(of_finding(&json!({"tainted": []})).into_string(), "");
    }
}
