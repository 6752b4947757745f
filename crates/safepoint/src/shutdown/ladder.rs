//! What each further stop signal does.

/// A rung of the ladder that stop signals climb: each one does more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rung {
    /// A graceful request: what is in progress finishes.
    Graceful,
    /// An immediate request: what is in progress is given up.
    Immediate,
    /// The process ends at once, by the signal's default action.
    Kill,
}

impl Rung {
    /// What the rung does, as a clause for people: "the next Ctrl-C …".
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Graceful => "asks for a graceful stop",
            Self::Immediate => "gives up what is in progress",
            Self::Kill => "ends the process at once",
        }
    }
}

/// The rungs, in the order of the signals.
#[derive(Debug, Clone)]
pub(super) struct Ladder(Vec<Rung>);

impl Default for Ladder {
    fn default() -> Self {
        Self(vec![Rung::Graceful, Rung::Immediate, Rung::Kill])
    }
}

impl Ladder {
    /// A ladder of `rungs`; nothing when there is none, or one is lower than the one before.
    pub(super) fn new(rungs: &[Rung]) -> Option<Self> {
        let climbs = rungs.is_sorted_by_key(|rung| *rung as u8);
        (climbs && !rungs.is_empty()).then(|| Self(rungs.to_vec()))
    }

    /// The rung of the signal with this number, from 0; the last one goes on for ever. Takes no lock and allocates nothing.
    pub(super) fn rung(&self, number: u32) -> Rung {
        let last = self.0.len().saturating_sub(1);
        let number = usize::try_from(number).unwrap_or(last).min(last);
        self.0.get(number).copied().unwrap_or(Rung::Kill)
    }
}
