//! The arithmetic of a stop: whoever asks for it kills after some time, and all that safepoint does must fit below that.

use std::time::Duration;

/// From SIGTERM to SIGKILL for what a command left behind, in seconds: the default of `--kill-after`.
const KILL_AFTER: u64 = 2;
/// How long a command may save after `--checkpoint-signal`, in seconds: the default of `--checkpoint-grace`.
const CHECKPOINT: u64 = 5;

/// The parts of a stop one after the other, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeline {
    /// What the platform does before it asks.
    pub(super) before: u64,
    /// The time to save before the stop signal.
    pub(super) checkpoint: u64,
    /// The grace period.
    pub(super) grace: u64,
    /// The time from the last SIGTERM to SIGKILL.
    pub(super) kill_after: u64,
    /// What is left for telling the reason, and for a slow machine.
    pub(super) margin: u64,
}

impl Timeline {
    /// A grace period, rounded up to a second, and what comes around it.
    pub(super) fn new(before: u64, has_checkpoint: bool, grace: Duration, margin: u64) -> Self {
        Self {
            before,
            checkpoint: if has_checkpoint { CHECKPOINT } else { 0 },
            grace: grace.as_secs() + u64::from(grace.subsec_nanos() > 0),
            kill_after: KILL_AFTER,
            margin,
        }
    }

    /// When the grace period is over.
    pub(super) fn grace_end(self) -> u64 {
        self.before + self.checkpoint + self.grace
    }

    /// When the last process has got SIGKILL from us.
    pub(super) fn all_gone(self) -> u64 {
        self.grace_end() + self.kill_after
    }

    /// When the platform may kill.
    pub(super) fn deadline(self) -> u64 {
        self.all_gone() + self.margin
    }

    /// The sum, for people: `5 s preStop + 50 s grace period + 2 s until SIGKILL + 3 s to spare`.
    pub(super) fn sum(self, before: &str) -> String {
        let parts = [
            (self.before, before),
            (self.checkpoint, "to save"),
            (self.grace, "grace period"),
            (self.kill_after, "until SIGKILL"),
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
        let timeline = Timeline::new(5, true, Duration::from_millis(49_001), 3);
        assert_eq!(
            (
                timeline.grace,
                timeline.grace_end(),
                timeline.all_gone(),
                timeline.deadline()
            ),
            (50, 60, 62, 65)
        );
        assert_eq!(
            timeline.sum("preStop"),
            "5 s preStop + 5 s to save + 50 s grace period + 2 s until SIGKILL + 3 s to spare = 65 s"
        );
    }
}
