//! What is heard of the child: what it says of itself, and how near it is to its limits.

use serde_json::json;

use super::Notice;
use super::child::Child;
use super::limits::Found;
use super::said::Said;
use super::supervisor::Supervisor;
use crate::clock::wall_ms;

impl Supervisor<'_> {
    pub(super) fn look_at_limits(&mut self, child: &Child) {
        let guard = child.exit.is_none().then(|| child.guard.pid());
        let now = self.now();
        for found in self.limits.look(now, self.options, &self.handle, guard) {
            match found {
                Found::Near(what) => self.warn_of_limit(what),
                Found::Reached(request) => {
                    self.token.request(request);
                    // It is looked at before the next sleep.
                    self.handle.wake();
                }
            }
        }
    }

    fn warn_of_limit(&mut self, what: String) {
        self.event("limit_warning", json!({"limit": what}));
        self.observer.notice(Notice::LimitNear { what });
    }

    /// Takes in what the child says on its control descriptor.
    pub(super) fn listen(&mut self, child: &mut Child) {
        let mut said = Vec::new();
        child.ear.listen(|line| said.push(Said::parse(line)));
        for said in said {
            self.handle.heard(self.token.clock());
            self.view.heard_at_ms = Some(wall_ms());
            self.is_view_stale = true;
            match said {
                Ok(said) => self.take_in(child, said),
                Err(why) => self.observer.notice(Notice::Warning(format!(
                    "the command said something on its control descriptor that is no object of ours: {why}"
                ))),
            }
        }
    }

    fn take_in(&mut self, child: &mut Child, said: Said) {
        if let Some(progress) = said.progress {
            self.view.progress = Some(progress);
        }
        if let Some(cost) = said.cost {
            self.view.cost_micros = self.view.cost_micros.saturating_add(cost.micros());
            let spent = self
                .budget
                .as_ref()
                .map(|budget| (budget.spend(cost), budget.limit()));
            if let Some((spent, limit)) = spent
                && spent.total.micros() >= limit.micros() - limit.micros() / 5
                && !self.budget_warned
            {
                self.budget_warned = true;
                self.warn_of_limit(format!(
                    "{} of the budget of {limit} are spent",
                    spent.total
                ));
            }
        }
        if let Some(ready) = said.ready {
            self.observer.notice(Notice::Ready(ready));
        }
        child.said_done |= said.done;
        if let Some(checkpoint) = said.checkpoint {
            self.event("checkpoint", json!({"id": checkpoint}));
            self.view.checkpoint = Some(checkpoint);
            self.view.checkpoint_at_ms = Some(wall_ms());
            if let Some(send) = self.ladder.saved(self.options) {
                self.send(child, send);
            }
        }
    }
}
