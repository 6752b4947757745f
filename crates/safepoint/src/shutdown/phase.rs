//! How far stopping has got.

use std::fmt;

use super::Mode;

/// How far stopping has got; it only advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// Nobody has asked for a stop.
    Running = 0,
    /// Nothing new is admitted; what is in progress finishes.
    Draining = 1,
    /// The grace period is over, or an immediate stop was asked for: what is in progress is given up.
    Terminating = 2,
    /// All is over.
    Stopped = 3,
}

impl Phase {
    /// The phase after a request of `mode`: graceful leads to Draining, immediate to Terminating, and neither leads back.
    pub fn after(self, mode: Mode) -> Self {
        let asked = match mode {
            Mode::Graceful => Self::Draining,
            Mode::Immediate => Self::Terminating,
        };
        self.max(asked)
    }

    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Terminating => "terminating",
            Self::Stopped => "stopped",
        }
    }

    pub(super) fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Running,
            1 => Self::Draining,
            2 => Self::Terminating,
            _ => Self::Stopped,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_phase_never_goes_back_and_immediate_always_escalates(modes in proptest::collection::vec(any::<bool>(), 0..20)) {
            let mut phase = Phase::Running;
            for immediate in modes {
                let mode = if immediate { Mode::Immediate } else { Mode::Graceful };
                let next = phase.after(mode);
                prop_assert!(next >= phase);
                prop_assert!(next >= Phase::Draining);
                prop_assert!(!immediate || next >= Phase::Terminating);
                prop_assert_eq!(Phase::from_u8(next as u8), next);
                phase = next;
            }
        }
    }
}
