//! Whether a stop gets on.

use crate::shutdown::{OpenKind, Phase, Status};

/// What changes when a stop gets on: the phase, units that end, what is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    phase: Phase,
    ended: u64,
    open: Vec<(OpenKind, String, String)>,
}

impl Progress {
    pub(super) fn of(status: &Status) -> Self {
        let open = status.open.iter();
        Self {
            phase: status.phase,
            ended: status.units.committed + status.units.rolled_back,
            open: open
                .map(|open| (open.kind, open.name.clone(), open.thread.clone()))
                .collect(),
        }
    }
}
