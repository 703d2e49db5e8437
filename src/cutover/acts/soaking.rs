//! After the switch: the watch, the hooks, and the way back that it takes by itself.

use super::Run;
use crate::cutover::coordinator::{Message, Report};
use crate::cutover::helm::Order;
use crate::cutover::machine::Event;
use crate::cutover::{hooks, soak};
use crate::task;
use std::time::Duration;
use tokio::time::Instant;

impl Run {
    /// An earlier process left a cutover in its soak: it goes on.
    pub(in crate::cutover) async fn take_over(&mut self, id: i64, is_back: bool, soaked: Duration) {
        self.is_back = is_back;
        self.before = soak::recalled(&self.recorder.figures_of(id).await);
        self.recorder.soaks(id);
        self.recorder.enter_soak().await;
        self.start_watch(soaked);
    }

    /// `soaked`: so long it has been watched before.
    pub(super) fn start_watch(&mut self, soaked: Duration) {
        if self
            .watch
            .as_ref()
            .is_some_and(|watch| !watch.is_finished())
        {
            return;
        }
        let (parts, before, messages) = (self.parts.clone(), self.before, self.messages.clone());
        let slate = self.hands.slate.clone();
        let watching = async move {
            let tell = |event, why| {
                let messages = messages.clone();
                async move {
                    if let Some(messages) = messages.upgrade() {
                        let report = Report::Watched(event, why);
                        let _ = messages.send(Message::Report(0, report)).await;
                    }
                }
            };
            soak::watch(&parts, &slate, (before, soaked), tell).await;
        };
        self.watch = Some(task::spawn("soak", watching));
    }

    pub(super) fn hook(&mut self, name: &'static str) {
        let config = &self.parts.config.cutover;
        let command = match name {
            "after_switch" => config.after_switch.clone(),
            _ => config.after_rollback.clone(),
        };
        // One deployment, one command: who leads runs it.
        let is_others = self.parts.fleet.is_some() && !self.leads;
        if command.is_empty() || is_others {
            return;
        }
        let (told, at_most, messages) = (
            self.told(),
            config.hook_timeout.now(),
            self.messages.clone(),
        );
        // Its owner is the record: it reports there, whatever comes meanwhile.
        drop(task::spawn("hook", async move {
            let began = Instant::now();
            let told: Vec<_> = told
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let ran = hooks::run(&command, &told, at_most).await;
            let report = Report::Hooked {
                name,
                took: began.elapsed(),
                ran: ran.map_err(|error| error.to_string()),
            };
            if let Some(messages) = messages.upgrade() {
                let _ = messages.send(Message::Report(0, report)).await;
            }
        }));
    }

    /// What hooks are told.
    pub(super) fn told(&self) -> Vec<(&'static str, String)> {
        let Some(order) = &self.order else {
            return Vec::new();
        };
        let roles = self.parts.roles.borrow();
        let from = if roles.primary.name == order.to {
            &roles.shadow.name
        } else {
            &roles.primary.name
        };
        let mut told = vec![
            ("CUTOVER", self.record().to_string()),
            ("FROM", from.clone()),
            ("TO", order.to.clone()),
        ];
        if let Some(fleet) = &self.parts.fleet {
            told.push(("PROXY", fleet.name().to_owned()));
        }
        told
    }

    pub(super) async fn go_back(&mut self) -> Option<Event> {
        if std::mem::replace(&mut self.went_back, true) {
            return None;
        }
        let order = Order {
            to: self.parts.roles.borrow().shadow.name.clone(),
            dry_run: false,
            force: Vec::new(),
            who: "understudy (cutover.soak_action)".to_owned(),
        };
        match self.begin(order).await {
            Ok(is_back) => Some(Event::Asked {
                dry_run: false,
                is_back,
            }),
            Err(refused) => {
                // The next look says it again.
                self.went_back = false;
                tracing::error!(?refused, "it cannot be rolled back by itself now");
                None
            }
        }
    }
}
