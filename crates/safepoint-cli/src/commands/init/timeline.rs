//! The arithmetic of a stop: whoever asks for it kills after some time, and all that safepoint does must fit below that.

use std::time::Duration;

/// The parts of a stop one after the other, in whole seconds.
///
/// Saving after `--checkpoint-signal` is within the grace period, and so is the end of what the command leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeline {
    /// What the platform does before it asks.
    pub(super) before: u64,
    /// The grace period, after which the whole process tree is killed.
    pub(super) grace: u64,
    /// What is left for telling the reason, and for a slow machine.
    pub(super) margin: u64,
}

impl Timeline {
    /// Times rounded up to a second.
    pub(super) fn new(before: Duration, grace: Duration, margin: u64) -> Self {
        let round_up = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        Self {
            before: round_up(before),
            grace: round_up(grace),
            margin,
        }
    }

    /// When the grace period is over, and the last process gets SIGKILL from us.
    pub(super) fn grace_end(self) -> u64 {
        self.before + self.grace
    }

    /// When the platform may kill.
    pub(super) fn deadline(self) -> u64 {
        self.grace_end() + self.margin
    }

    /// The sum, for people: `5 s preStop + 50 s grace period + 5 s to spare = 60 s`.
    pub(super) fn sum(self, before: &str) -> String {
        let parts = [
            (self.before, before),
            (self.grace, "grace period"),
            (self.margin, "to spare"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(seconds, _)| *seconds > 0)
            .map(|(seconds, what)| format!("{seconds} s {what}"))
            .collect();
        format!("{} = {} s", parts.join(" + "), self.deadline())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_kills_after_everything_that_we_do() {
        let timeline = Timeline::new(Duration::from_secs(5), Duration::from_millis(49_001), 5);
        assert_eq!(
            (timeline.grace, timeline.grace_end(), timeline.deadline()),
            (50, 55, 60)
        );
        assert_eq!(
            timeline.sum("preStop"),
            "5 s preStop + 50 s grace period + 5 s to spare = 60 s"
        );
    }
}
