//! What a stop was, when it is over: as a struct, as text, as lines for `events.jsonl`.

use std::fmt;
use std::time::Duration;

use super::event_line::EventLine;
use super::handlers::Handlers;
use super::node::Node;
use super::open::Printable;
use super::tree::RollbackFailure;
use super::{HeldUp, Mode, Order, Phase, Recorded, StopRequest};
use crate::clock::wall_ms;

/// The exit code of a program that was stopped by a limit, a budget or its own code: `EX_TEMPFAIL` of `<sysexits.h>`, "run me again".
pub const STOPPED: u8 = 75;

/// How many of those that held a stop up are shown as text.
const SHOWN: usize = 10;

/// What held the stop up for less is left out of the text.
const WORTH_SAYING: Duration = Duration::from_millis(10);

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HookOutcome {
    /// It returned, and without an error.
    Done,
    /// It returned this error.
    Failed(String),
    /// It panicked with this text.
    Panicked(String),
    /// It outlived its share and was left behind.
    Hung,
}

/// What became of one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookReport {
    /// Its place in the order.
    pub order: Order,
    /// Its name.
    pub name: String,
    /// How long it took, or was waited for.
    pub took: Duration,
    /// The share of the time it had.
    pub share: Duration,
    /// How it ended.
    pub outcome: HookOutcome,
}

/// How long a phase lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// Its length; zero for one that was skipped.
    pub took: Duration,
}

/// How many units ended how, over the life of the shutdown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnitCounts {
    /// Ended by a commit.
    pub committed: u64,
    /// Ended without one.
    pub rolled_back: u64,
    /// Not let in, because the stop had come.
    pub refused: u64,
}

/// What a stop was: why, how long, what held it up, what was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// All requests, in order; empty when the work ended by itself.
    pub requests: Vec<Recorded>,
    /// From the first request to the end.
    pub took: Duration,
    /// Draining and Terminating.
    pub phases: Vec<PhaseTime>,
    /// The hooks, in the order they ran in.
    pub hooks: Vec<HookReport>,
    /// Units and tracked work that were open when the request came and ended by themselves, the longest first; at most 1000.
    pub held_up: Vec<HeldUp>,
    /// What was still open when the time was over.
    pub given_up: Vec<HeldUp>,
    /// How the units ended.
    pub units: UnitCounts,
    /// Rollback actions that failed or panicked; at most 100.
    pub failures: Vec<RollbackFailure>,
    /// How many requests were graceful.
    pub graceful_interrupts: usize,
    /// How many requests were immediate.
    pub immediate_interrupts: usize,
    /// What became of the signal handlers.
    pub handlers: Handlers,
    ended_ms: i64,
}

impl StopReport {
    pub(super) fn new(node: &Node, hooks: Vec<HookReport>, given_up: Vec<HeldUp>) -> Self {
        let tree = &node.tree;
        let requests = node.requests();
        let entered = node.links().entered;
        let begun = entered[0].unwrap_or_default();
        let stopped = entered[2].unwrap_or_else(|| tree.clock.now());
        let terminating = entered[1].unwrap_or(stopped).min(stopped);
        let ended = tree.ended();
        let count = |mode| {
            let of_mode = requests
                .iter()
                .filter(|recorded| recorded.request.mode == mode);
            of_mode.count()
        };
        Self {
            graceful_interrupts: count(Mode::Graceful),
            immediate_interrupts: count(Mode::Immediate),
            requests,
            took: stopped.since(begun),
            phases: vec![
                PhaseTime {
                    phase: Phase::Draining,
                    took: terminating.since(begun),
                },
                PhaseTime {
                    phase: Phase::Terminating,
                    took: stopped.since(terminating),
                },
            ],
            hooks,
            held_up: tree.gate.held_up(),
            given_up,
            units: UnitCounts {
                committed: ended.committed,
                rolled_back: ended.rolled_back,
                refused: ended.refused,
            },
            failures: tree.failures(),
            handlers: Handlers::None,
            ended_ms: wall_ms(),
        }
    }

    /// Why the program stopped; nothing when its work ended by itself.
    pub fn reason(&self) -> Option<&StopRequest> {
        self.requests.first().map(|recorded| &recorded.request)
    }

    /// The exit code that tells a caller of the stop: 0 when the work ended by itself, 128 and the signal's number after a signal, else
    /// [`STOPPED`].
    pub fn exit_code(&self) -> u8 {
        match self.reason() {
            None => 0,
            Some(reason) => {
                let signal = reason
                    .signal
                    .and_then(|signal| u8::try_from(signal.checked_add(128)?).ok());
                signal.unwrap_or(STOPPED)
            }
        }
    }

    /// Whether nothing was given up, every hook did its work and every rollback succeeded.
    pub fn is_clean(&self) -> bool {
        self.given_up.is_empty()
            && self.failures.is_empty()
            && self
                .hooks
                .iter()
                .all(|hook| hook.outcome == HookOutcome::Done)
    }

    /// The stop as lines for `events.jsonl`, without line ends: one `interrupt_initiated` for each request, then `interrupt_completed`. Empty when
    /// nobody asked for the stop.
    ///
    /// `fields` are added to each line after `timestamp` and `event`, as strings: a job, a run, an `agent_id`.
    pub fn event_lines(&self, fields: &[(&str, &str)]) -> Vec<String> {
        let line = |event, at_ms| {
            let line = EventLine::new(event, at_ms);
            fields
                .iter()
                .fold(line, |line, (name, value)| line.text(name, value))
        };
        let mut lines: Vec<String> = self
            .requests
            .iter()
            .map(|Recorded { request, at_ms }| {
                line("interrupt_initiated", *at_ms)
                    .text("source", request.source.name())
                    .text("mode", request.mode.name())
                    .text("message", &request.message)
                    .end()
            })
            .collect();
        if !lines.is_empty() {
            let completed = line("interrupt_completed", self.ended_ms)
                .null("checkpoint_id")
                .number("total_interrupts", self.requests.len())
                .number("graceful_interrupts", self.graceful_interrupts)
                .number("immediate_interrupts", self.immediate_interrupts)
                .number("given_up", self.given_up.len());
            lines.push(completed.end());
        }
        lines
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        match self.reason() {
            None => write!(f, "ended by itself in {}", seconds(self.took))?,
            Some(reason) => write!(f, "stopped in {}: {reason}", seconds(self.took))?,
        }
        for later in self.requests.iter().skip(1) {
            write!(f, "\n  then: {}", later.request)?;
        }
        for phase in self.phases.iter().filter(|phase| !phase.took.is_zero()) {
            write!(f, "\n  {}: {}", phase.phase.name(), seconds(phase.took))?;
        }
        let long = self.held_up.iter().filter(|held| held.held >= WORTH_SAYING);
        show(f, "held up by", long)?;
        show(f, "gave up", self.given_up.iter())?;
        for hook in &self.hooks {
            let (order, name) = (hook.order.name(), Printable(&hook.name));
            write!(f, "\n  hook `{name}` ({order}): ")?;
            match &hook.outcome {
                HookOutcome::Done => write!(f, "done in {}", seconds(hook.took))?,
                HookOutcome::Failed(message) => {
                    write!(
                        f,
                        "failed in {}: {}",
                        seconds(hook.took),
                        Printable(message)
                    )?;
                }
                HookOutcome::Panicked(message) => {
                    write!(
                        f,
                        "panicked in {}: {}",
                        seconds(hook.took),
                        Printable(message)
                    )?;
                }
                HookOutcome::Hung => {
                    write!(f, "hung: not done in its share of {}", seconds(hook.share))?;
                }
            }
        }
        for failure in &self.failures {
            let (unit, message) = (Printable(&failure.unit), Printable(&failure.message));
            write!(f, "\n  rollback of `{unit}` failed: {message}")?;
        }
        let UnitCounts {
            committed,
            rolled_back,
            refused,
        } = self.units;
        if self.units != UnitCounts::default() {
            write!(
                f,
                "\n  units: {committed} committed, {rolled_back} rolled back, {refused} refused"
            )?;
        }
        if let Handlers::Replaced(signals) = &self.handlers {
            write!(
                f,
                "\n  another library took the handlers of these signals meanwhile and keeps them: {signals:?}"
            )?;
        }
        Ok(())
    }
}

fn show<'a>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    mut held_up: impl Iterator<Item = &'a HeldUp>,
) -> fmt::Result {
    for held in held_up.by_ref().take(SHOWN) {
        let after = held.held.as_secs_f64();
        write!(
            f,
            "\n  {title}: {}, {after:.2} s after the request",
            held.open
        )?;
    }
    match held_up.count() {
        0 => Ok(()),
        more => write!(f, "\n  {title}: {more} more"),
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::shutdown::{Open, OpenKind, Shutdown};

    #[test]
    fn the_exit_code_of_a_signal_that_there_is_not_is_that_of_a_stop() {
        for (signal, code) in [
            (libc::SIGTERM, 143),
            (127, 255),
            (128, STOPPED),
            (-200, STOPPED),
            (i32::MAX, STOPPED),
            (i32::MIN, STOPPED),
        ] {
            let shutdown = Shutdown::builder().build().expect("built");
            shutdown.token().request(StopRequest {
                signal: Some(signal),
                ..StopRequest::graceful(crate::shutdown::Source::System, "a signal")
            });
            assert_eq!(shutdown.finish().exit_code(), code, "{signal}");
        }
    }

    #[test]
    fn the_text_names_what_held_the_stop_up_for_long_and_steers_no_terminal() {
        let mut report = Shutdown::builder().build().expect("built").finish();
        let held = |number: u64| HeldUp {
            open: Open {
                name: format!("record {number}\u{1b}[2J"),
                kind: OpenKind::Unit,
                age: Duration::from_millis(3100),
                thread: "worker 3".into(),
            },
            held: Duration::from_millis(number),
        };
        report.held_up = [9, 10].map(held).into();
        report.given_up = (20..32).map(held).collect();
        let text = report.to_string();
        assert!(!text.contains("record 9\\"), "{text}");
        assert!(
            text.contains(
                "\n  held up by: unit `record 10\\u{1b}[2J` (worker 3, open for 3.1 s), 0.01 s after the request"
            ),
            "{text}"
        );
        assert!(text.ends_with("\n  gave up: 2 more"), "{text}");
    }
}
