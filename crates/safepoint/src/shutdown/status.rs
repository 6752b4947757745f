//! How it stands with a shutdown now, for people who ask (SIGUSR1) and for health pages.

use std::fmt;
use std::time::Duration;

use super::open::Printable;
use super::{Open, Phase, Rung, ShutdownToken, StopRequest, UnitCounts};

/// How many open things are shown as text.
const SHOWN: usize = 20;

/// How it stands with a shutdown now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How far stopping has got.
    pub phase: Phase,
    /// Why, once a stop was asked for.
    pub reason: Option<StopRequest>,
    /// What is left of the grace period, once a stop was asked for.
    pub remaining: Option<Duration>,
    /// Units and tracked work that are open, the oldest first.
    pub open: Vec<Open>,
    /// How the units ended so far.
    pub units: UnitCounts,
    /// What the next stop signal will do; nothing when there are no handlers.
    pub next_signal: Option<Rung>,
}

impl ShutdownToken {
    /// How it stands now. Takes some locks; meant for people and health pages, not for loops.
    pub fn status(&self) -> Status {
        let tree = &self.node.tree;
        let reason = self.reason();
        let ended = tree.ended();
        Status {
            phase: self.phase(),
            reason,
            remaining: self.remaining(),
            open: tree.open(),
            units: UnitCounts {
                committed: ended.committed,
                rolled_back: ended.rolled_back,
                refused: ended.refused,
            },
            next_signal: tree.mailbox().map(|mailbox| mailbox.next_rung()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.phase.name())?;
        if let Some(reason) = &self.reason {
            write!(f, ": {}", Printable(&reason.message))?;
        }
        if let Some(remaining) = self.remaining {
            write!(f, ", {:.1} s of grace left", remaining.as_secs_f64())?;
        }
        if self.open.is_empty() {
            write!(f, "\n  nothing is open")?;
        }
        for open in self.open.iter().take(SHOWN) {
            write!(f, "\n  {open}")?;
        }
        if self.open.len() > SHOWN {
            write!(f, "\n  and {} more", self.open.len() - SHOWN)?;
        }
        if let Some(rung) = self.next_signal {
            write!(f, "\n  the next stop signal {}", rung.meaning())?;
        }
        Ok(())
    }
}
