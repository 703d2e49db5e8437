//! What every view stands in: the way to the others, and who is primary at this moment.

use super::Wanted;
use super::assets::SCRIPT;
use super::bits::{self, Tone, tag};
use super::form;
use super::seats::Visitor;
use super::trouble::document;
use crate::admin::{House, Parts};
use crate::cutover::State;
use maud::{Markup, html};

/// The views, in the order in which one looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    Overview,
    Findings,
    Latency,
    Queries,
    Cutover,
    Verification,
    Fleet,
    Audit,
}

impl Here {
    const ALL: [Self; 8] = [
        Self::Overview,
        Self::Findings,
        Self::Latency,
        Self::Queries,
        Self::Cutover,
        Self::Verification,
        Self::Fleet,
        Self::Audit,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Findings => "Findings",
            Self::Latency => "Latency",
            Self::Queries => "Queries",
            Self::Cutover => "Cutover",
            Self::Verification => "Verification",
            Self::Fleet => "Fleet",
            Self::Audit => "Audit",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/ui/",
            Self::Findings => "/ui/findings",
            Self::Latency => "/ui/latency",
            Self::Queries => "/ui/queries",
            Self::Cutover => "/ui/cutover",
            Self::Verification => "/ui/verification",
            Self::Fleet => "/ui/fleet",
            Self::Audit => "/ui/audit",
        }
    }

    /// The key that leads there, after a `g`.
    const fn key(self) -> &'static str {
        match self {
            Self::Overview => "o",
            Self::Findings => "f",
            Self::Latency => "l",
            Self::Queries => "q",
            Self::Cutover => "c",
            Self::Verification => "v",
            Self::Fleet => "t",
            Self::Audit => "a",
        }
    }
}

/// What is around a view's content.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) parts: &'a Parts,
    pub(super) visitor: &'a Visitor,
    pub(super) wanted: &'a Wanted,
    pub(super) here: Here,
    pub(super) title: &'a str,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Frame<'_> {
    /// The document; or, where parts are asked for, the content alone with what stands above it.
    pub(super) fn around(&self, content: &Markup) -> Markup {
        if !self.wanted.whole() {
            return html! { (self.head()) (content) };
        }
        let head = html! { script type="module" src=(SCRIPT.path()) {} };
        let body = html! {
            a class="skip" href="#content" { "To the content" }
            header class="top" {
                a class="name" href="/ui/" { "understudy" }
                (self.ways())
                (self.head())
                (self.way_out())
            }
            p id="lost" class="problem" role="alert" hidden { "understudy does not answer: what stands here may be old." }
            main id="content" tabindex="-1" { (content) }
            div id="said" class="unseen" role="status" {}
            (keys())
        };
        document(self.title, &head, &body)
    }

    fn ways(&self) -> Markup {
        // A proxy that is alone has no fleet to look at.
        let is_alone = self.parts.helm.fleet().is_none();
        let views = Here::ALL
            .into_iter()
            .filter(|view| *view != Here::Fleet || !is_alone);
        html! {
            nav aria-label="Views" {
                @for view in views {
                    a href=(view.path()) data-key=(view.key()) aria-current=[(view == self.here).then_some("page")] {
                        (view.name())
                    }
                }
            }
        }
    }

    /// Who is what now, on every view: nobody should have to ask.
    fn head(&self) -> Markup {
        let roles = self.parts.roles.borrow().clone();
        let house: &dyn House = &*self.parts.house;
        let mirror = house.mirror();
        let state = self.parts.helm.state();
        html! {
            div id="head" class="head" data-part="head" data-by="status cutover roles" {
                span class="role" { span class="what" { "primary" } " " strong { (roles.primary.name) } }
                span class="role" { span class="what" { "shadow" } " " (roles.shadow.name) }
                span class="role" title=[mirror.reason.as_deref()] { span class="what" { "mirror" } " " (bits::mirror(&mirror)) }
                @if !matches!(state, State::Idle | State::Done | State::Aborted) {
                    a class="role" href="/ui/cutover" { span class="what" { "cutover" } " " (tag(Tone::Busy, &state.name().replace('_', " "))) }
                }
            }
        }
    }

    fn way_out(&self) -> Markup {
        html! {
            div class="way-out" {
                button type="button" class="quiet" id="help" hidden title="Keys (?)" { "Keys" }
                @if self.visitor.caller.is_named() {
                    span class="soft" title=(self.visitor.caller.role().name()) { (self.visitor.caller.name())
                        span class="rank" { ", " (self.visitor.caller.role().name()) } }
                }
                @if self.visitor.seated {
                    form method="post" action="/ui/logout" {
                        (form::token(self.visitor))
                        button class="quiet" type="submit" { "Log out" }
                    }
                }
            }
        }
    }
}

/// What keys do, shown by `?`.
fn keys() -> Markup {
    let all = [
        ("j k", "next and previous row"),
        ("Enter", "open the row"),
        ("u", "back to the list"),
        ("[ ]", "previous and next page"),
        ("/", "search"),
        ("p", "pause or resume the live queries"),
        ("a x n o", "of a finding: accept, fixed, noise, open"),
        (
            "g, then o f l q c v t a",
            "overview, findings, latency, queries, cutover, verification, fleet, audit",
        ),
        ("?", "this"),
    ];
    html! {
        dialog id="keys" aria-labelledby="keys-title" {
            h2 id="keys-title" { "Keys" }
            dl class="keys" {
                @for (keys, what) in all {
                    dt { @for key in keys.split(' ') { kbd { (key) } " " } }
                    dd { (what) }
                }
            }
            form method="dialog" class="row" {
                label { input type="checkbox" id="keys-on" checked; " Keys are on" }
                button class="main" { "Close" }
            }
        }
    }
}
