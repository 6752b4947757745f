//! A time limit as a source of stop requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::keeper::{AlarmKey, Keeper};
use super::{ShutdownToken, Source, StopRequest};
use crate::bell::Bell;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};

impl ShutdownToken {
    /// Asks for a graceful stop of this token, source Timeout, when `limit` of unpaused time has passed.
    ///
    /// The handle is for [lifting](TimeLimit::lift) it; dropping the handle leaves the limit in force.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] on a [detached](ShutdownToken::detached) token when the system has no thread to keep time with.
    pub fn time_limit(&self, limit: Duration) -> Result<TimeLimit> {
        let tree = &self.node.tree;
        let keeper = match tree.keeper() {
            Some(keeper) => keeper,
            None => tree.set_keeper(start(self)?),
        };
        let until = self.clock().now() + limit;
        let node = Arc::downgrade(&self.node);
        let alarm = keeper.set(until, move || {
            if let Some(node) = node.upgrade() {
                let message = format!("the time limit of {} was reached", seconds(limit));
                ShutdownToken { node }.request(StopRequest::graceful(Source::Timeout, message));
            }
        });
        Ok(TimeLimit {
            token: self.clone(),
            alarm,
            until,
        })
    }
}

/// A time limit in force; see [`ShutdownToken::time_limit`].
pub struct TimeLimit {
    token: ShutdownToken,
    alarm: AlarmKey,
    until: Moment,
}

impl TimeLimit {
    /// Lifts the limit. Nothing happens when it was reached before.
    pub fn lift(&self) {
        if let Some(keeper) = self.token.node.tree.keeper() {
            keeper.unset(self.alarm);
        }
    }

    /// What is left of it; zero once it was reached.
    pub fn remaining(&self) -> Duration {
        self.until.since(self.token.clock().now())
    }
}

impl fmt::Debug for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeLimit")
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

fn start(token: &ShutdownToken) -> Result<Keeper> {
    let bell = Bell::new().map(Arc::new);
    let keeper = bell.and_then(|bell| Keeper::start(bell, token.clock().clone(), None));
    keeper.map_err(|error| {
        Error::new(ErrorKind::Io, "cannot start the thread that keeps time").with_source(error)
    })
}

fn seconds(time: Duration) -> String {
    let text = format!("{:.3}", time.as_secs_f64());
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}
