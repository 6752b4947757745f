//! What steps tell whoever watches them.

use std::fmt;
use std::time::Duration;

/// Something that happened to a step, a stage or an effect. The library never prints: [`Display`](fmt::Display) is a line to print.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Earlier runs are gone on with.
    Resumed {
        /// This run's number, from 1.
        run: u32,
        /// Steps that are complete.
        complete: u64,
        /// Whether the run before this one was killed.
        after_crash: bool,
    },
    /// A stage or a step begins.
    Starting {
        /// Its whole name.
        name: String,
    },
    /// A stage or a step ended well; a step's result is durable.
    Complete {
        /// Its whole name.
        name: String,
        /// How long it took.
        took: Duration,
    },
    /// A step's recorded result is taken.
    Skipped {
        /// Its whole name.
        name: String,
        /// The run that made it.
        run: u32,
    },
    /// A step was cut off in an earlier run, or a stage or a step by a stop in this one; a step runs again when it is asked for.
    Interrupted {
        /// Its whole name.
        name: String,
        /// The run that it was in.
        run: u32,
    },
    /// A step's recorded result did not pass its check, so it runs again.
    RunsAgain {
        /// Its whole name.
        name: String,
        /// The run that made the result.
        run: u32,
    },
    /// A stage or a step returned an error.
    Failed {
        /// Its whole name.
        name: String,
        /// The error's text.
        error: String,
        /// The earlier run whose memoised error this is.
        memoised_in: Option<u32>,
    },
    /// In one scope some names are new, and some that were recorded are not asked for: names that change from run to run.
    NamesChanged {
        /// The scope's whole name; empty for the outermost.
        scope: String,
        /// The first of the new names.
        new: Vec<String>,
        /// How many they are.
        new_count: u64,
        /// The first of the recorded names that were not asked for.
        left: Vec<String>,
        /// How many they are.
        left_count: u64,
    },
    /// An effect begins; its intent is durable.
    EffectStarting {
        /// Its whole key.
        key: String,
    },
    /// An effect was brought about; its result is durable.
    EffectComplete {
        /// Its whole key.
        key: String,
        /// How long it took.
        took: Duration,
    },
    /// An effect's recorded result is taken.
    EffectSkipped {
        /// Its whole key.
        key: String,
        /// The run that brought it about.
        run: u32,
    },
    /// An effect was cut off or failed: it may have happened or not.
    EffectInDoubt {
        /// Its whole key.
        key: String,
        /// The run that began it.
        run: u32,
    },
    /// An effect is in doubt, and waits for a person.
    EffectHeld {
        /// Its whole key.
        key: String,
        /// The run that began it.
        run: u32,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resumed {
                run,
                complete,
                after_crash,
            } => {
                write!(f, "Run {run}: {complete} steps are complete already")?;
                if *after_crash {
                    f.write_str("; the run before was killed")?;
                }
                Ok(())
            }
            Self::Starting { name } => write!(f, "Stage: {name} - Starting"),
            Self::Complete { name, took } => {
                write!(f, "Stage: {name} - Complete ({})", Took(*took))
            }
            Self::Skipped { name, run } => {
                write!(f, "Stage: {name} - Skipped (complete since run {run})")
            }
            Self::Interrupted { name, run } => {
                write!(f, "Stage: {name} - Interrupted in run {run}")
            }
            Self::RunsAgain { name, run } => write!(
                f,
                "Stage: {name} - Runs again (its result of run {run} did not pass the check)"
            ),
            Self::Failed {
                name,
                error,
                memoised_in: None,
            } => write!(f, "Stage: {name} - Failed: {}", OneLine(error)),
            Self::Failed {
                name,
                error,
                memoised_in: Some(run),
            } => write!(f, "Stage: {name} - Failed in run {run}: {}", OneLine(error)),
            Self::NamesChanged {
                scope,
                new,
                new_count,
                left,
                left_count,
            } => {
                let place = if scope.is_empty() {
                    "the outermost scope".to_owned()
                } else {
                    format!("`{scope}`")
                };
                write!(
                    f,
                    "In {place} {new_count} steps are new ({}) while {left_count} recorded ones were not asked for ({}): \
                     a name that changes from run to run is never found again",
                    Some3(new, *new_count),
                    Some3(left, *left_count)
                )
            }
            Self::EffectStarting { key } => write!(f, "Effect: {key} - Starting"),
            Self::EffectComplete { key, took } => {
                write!(f, "Effect: {key} - Complete ({})", Took(*took))
            }
            Self::EffectSkipped { key, run } => {
                write!(f, "Effect: {key} - Skipped (complete since run {run})")
            }
            Self::EffectInDoubt { key, run } => {
                write!(f, "Effect: {key} - In doubt since run {run}")
            }
            Self::EffectHeld { key, run } => write!(
                f,
                "Effect: {key} - Held for a person, in doubt since run {run}"
            ),
        }
    }
}

/// A time as a person reads it: `0.2s`, `13.2s`, `4m 07s`, `2h 05m`.
pub(super) struct Took(pub(super) Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..100 => write!(f, "{:.1}s", self.0.as_secs_f64()),
            100..3600 => write!(f, "{}m {:02}s", seconds / 60, seconds % 60),
            _ => write!(f, "{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        }
    }
}

/// A text from elsewhere on one line, without what steers a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// The first three of `count` names.
struct Some3<'a>(&'a [String], u64);

impl fmt::Display for Some3<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.0.iter().take(3).enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            write!(f, "`{name}`")?;
        }
        if self.1 > 3 {
            f.write_str(", ...")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notice_is_one_line_for_a_person() {
        let name = || "T0/run-2".to_owned();
        let took = Duration::from_millis(13_240);
        let lines = [
            (
                Notice::Starting { name: name() },
                "Stage: T0/run-2 - Starting",
            ),
            (
                Notice::Complete { name: name(), took },
                "Stage: T0/run-2 - Complete (13.2s)",
            ),
            (
                Notice::Skipped {
                    name: name(),
                    run: 1,
                },
                "Stage: T0/run-2 - Skipped (complete since run 1)",
            ),
            (
                Notice::Interrupted {
                    name: name(),
                    run: 3,
                },
                "Stage: T0/run-2 - Interrupted in run 3",
            ),
            (
                Notice::Failed {
                    name: name(),
                    error: "no\n\u{1b}[2J".into(),
                    memoised_in: Some(2),
                },
                "Stage: T0/run-2 - Failed in run 2: no\\n\\u{1b}[2J",
            ),
            (
                Notice::NamesChanged {
                    scope: "T0".into(),
                    new: vec!["T0/b".into()],
                    new_count: 1,
                    left: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
                    left_count: 4,
                },
                "In `T0` 1 steps are new (`T0/b`) while 4 recorded ones were not asked for (`a`, `b`, `c`, ...): \
                 a name that changes from run to run is never found again",
            ),
        ];
        for (notice, line) in lines {
            assert_eq!(notice.to_string(), line);
        }
        assert_eq!(Took(Duration::from_secs(247)).to_string(), "4m 07s");
        assert_eq!(Took(Duration::from_secs(7_512)).to_string(), "2h 05m");
    }
}
