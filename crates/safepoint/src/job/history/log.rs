//! What `events.jsonl` says of stops, pauses and children.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use serde_json::{Map, Value};

use super::MAX_MOMENTS;
use crate::clock::from_rfc_3339;
use crate::disk;
use crate::error::Result;

/// A line that is longer is no event of ours.
const MAX_LINE: usize = 1 << 20;
const CHUNK: usize = 64 * 1024;

/// A stop request, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopTold {
    /// In which run.
    pub run: u32,
    /// When it was asked for, in milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// `USER`, `SYSTEM`, `PROGRAMMATIC`, `TIMEOUT`, `BUDGET` or `PARENT`.
    pub source: String,
    /// `GRACEFUL` or `IMMEDIATE`.
    pub mode: String,
    /// For people, for example the name of the signal.
    pub message: String,
    /// When the stop was over, in milliseconds since 1970 UTC.
    pub completed_at_ms: Option<i64>,
    /// Attempts that were ended by the stop, to run again.
    pub given_up: Option<u64>,
}

/// A time in which nothing was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// In which run.
    pub run: u32,
    /// `paused_rate_limit` or `suspended`.
    pub event: String,
    /// In milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// In milliseconds since 1970 UTC; none if nobody said that it was over.
    pub to_ms: Option<i64>,
}

/// A child of a supervised job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// In which run.
    pub run: u32,
    /// Its process.
    pub pid: u32,
    /// How many starts of this run came before it.
    pub restart: u32,
    /// In milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// In milliseconds since 1970 UTC; none while it runs, or if nobody was left to see it end.
    pub ended_at_ms: Option<i64>,
    /// How it ended, for people: `exit 1`, `killed by SIGKILL`.
    pub exit: Option<String>,
    /// Its exit code, if it ended by one.
    pub code: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<i64>,
    /// Whether it finished its work.
    pub is_finished: bool,
}

/// Something else that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// In which run.
    pub run: u32,
    /// In milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// The event: `restarting`, `limit_warning`, `crash_loop`, `checkpoint`.
    pub event: String,
    /// What it says, as JSON where it is no text.
    pub fields: Vec<(String, String)>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) stops: VecDeque<StopTold>,
    pub(super) pauses: VecDeque<Pause>,
    pub(super) children: VecDeque<Child>,
    pub(super) marks: VecDeque<Mark>,
    last: HashMap<u32, i64>,
}

/// Keeps the last ones.
fn keep<T>(kept: &mut VecDeque<T>, one: T) {
    if kept.len() == MAX_MOMENTS {
        kept.pop_front();
    }
    kept.push_back(one);
}

impl Log {
    /// Reads the file; nothing happened if there is none. What is no event is left out, as a line that a power cut tore.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut log = Self::default();
        if disk::size(path).is_none() {
            return Ok(log);
        }
        let file = disk::StoredFile::open(path)?;
        let mut line = Vec::new();
        let mut is_too_long = false;
        let mut at = 0;
        while at < file.length() {
            let left = usize::try_from(file.length() - at).unwrap_or(usize::MAX);
            let mut chunk = vec![0; CHUNK.min(left)];
            file.read_at(&mut chunk, at)?;
            at += chunk.len() as u64;
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                if line.len() + piece.len() > MAX_LINE {
                    is_too_long = true;
                    line.clear();
                } else if !is_too_long {
                    line.extend_from_slice(piece);
                }
                if piece.ends_with(b"\n") {
                    if !is_too_long && let Ok(event) = serde_json::from_slice(&line) {
                        log.event(&event);
                    }
                    is_too_long = false;
                    line.clear();
                }
            }
        }
        Ok(log)
    }

    /// The time of the last event of a run.
    pub(super) fn last_of(&self, run: u32) -> Option<i64> {
        self.last.get(&run).copied()
    }

    fn event(&mut self, event: &Map<String, Value>) {
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let number = |name: &str| event.get(name).and_then(Value::as_u64);
        let small = |name: &str| u32::try_from(number(name)?).ok();
        let (Some(at_ms), Some(kind), Some(run)) = (
            text("timestamp").and_then(from_rfc_3339),
            text("event"),
            small("run"),
        ) else {
            return;
        };
        let last = self.last.entry(run).or_insert(at_ms);
        *last = at_ms.max(*last);
        let owned = |name: &str| text(name).unwrap_or_default().to_owned();
        match kind {
            "interrupt_initiated" => keep(
                &mut self.stops,
                StopTold {
                    run,
                    at_ms,
                    source: owned("source"),
                    mode: owned("mode"),
                    message: owned("message"),
                    completed_at_ms: None,
                    given_up: None,
                },
            ),
            "interrupt_completed" => {
                let of_run = self.stops.iter_mut().rev();
                for stop in of_run.take_while(|stop| stop.run == run) {
                    stop.completed_at_ms = Some(at_ms);
                    stop.given_up = number("given_up");
                }
            }
            "paused_rate_limit" | "suspended" => keep(
                &mut self.pauses,
                Pause {
                    run,
                    event: kind.to_owned(),
                    from_ms: at_ms,
                    to_ms: None,
                },
            ),
            "resumed" | "continued" => {
                let begun = if kind == "resumed" {
                    "paused_rate_limit"
                } else {
                    "suspended"
                };
                let last = self.pauses.iter_mut().rev().take(2);
                for pause in last.filter(|pause| pause.event == begun && pause.run == run) {
                    pause.to_ms.get_or_insert(at_ms);
                }
            }
            "child_started" => keep(
                &mut self.children,
                Child {
                    run,
                    pid: small("pid").unwrap_or(0),
                    restart: small("restart").unwrap_or(0),
                    started_at_ms: at_ms,
                    ended_at_ms: None,
                    exit: None,
                    code: None,
                    signal: None,
                    is_finished: false,
                },
            ),
            "child_ended" => {
                let pid = small("pid").unwrap_or(0);
                let last = self.children.back_mut();
                if let Some(child) = last.filter(|child| child.run == run && child.pid == pid) {
                    child.ended_at_ms = Some(at_ms);
                    child.exit = text("exit").map(str::to_owned);
                    child.code = event.get("code").and_then(Value::as_i64);
                    child.signal = event.get("signal").and_then(Value::as_i64);
                    child.is_finished =
                        event.get("finished").and_then(Value::as_bool) == Some(true);
                }
            }
            "restarting" | "limit_warning" | "crash_loop" | "checkpoint" => {
                let fields = event.iter().filter(|(name, _)| {
                    !["timestamp", "event", "job", "run", "agent_id"].contains(&name.as_str())
                });
                let fields = fields.map(|(name, value)| {
                    let value = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    (name.clone(), value)
                });
                let mark = Mark {
                    run,
                    at_ms,
                    event: kind.to_owned(),
                    fields: fields.collect(),
                };
                keep(&mut self.marks, mark);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Log {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("events.jsonl");
        disk::replace(&path, text.as_bytes()).expect("written");
        Log::read(&path).expect("read")
    }

    fn line(second: u32, run: u32, event: &str, more: &str) -> String {
        format!(
            "{{\"timestamp\":\"1970-01-01T00:00:{second:02}.000Z\",\"event\":\"{event}\",\"job\":\"x\",\"run\":{run}{more}}}\n"
        )
    }

    #[test]
    fn stops_end_with_their_run_and_pauses_with_their_like() {
        let stop = ",\"source\":\"USER\",\"mode\":\"GRACEFUL\",\"message\":\"SIGINT\"";
        let log = read(
            &[
                line(1, 1, "interrupt_initiated", stop),
                line(2, 2, "suspended", ""),
                line(3, 2, "paused_rate_limit", ",\"seconds\":9"),
                line(4, 2, "continued", ""),
                line(5, 2, "interrupt_initiated", stop),
                line(6, 2, "interrupt_initiated", stop),
                line(7, 2, "resumed", ""),
                line(8, 2, "interrupt_completed", ",\"given_up\":3"),
            ]
            .concat(),
        );
        let ends: Vec<_> = log
            .stops
            .iter()
            .map(|stop| (stop.completed_at_ms, stop.given_up))
            .collect();
        assert_eq!(
            ends,
            [(None, None), (Some(8000), Some(3)), (Some(8000), Some(3))]
        );
        assert_eq!(log.stops[0].message, "SIGINT");
        let pauses: Vec<_> = log
            .pauses
            .iter()
            .map(|pause| (pause.from_ms, pause.to_ms))
            .collect();
        assert_eq!(pauses, [(2000, Some(4000)), (3000, Some(7000))]);
        assert_eq!(
            (log.last_of(1), log.last_of(2), log.last_of(3)),
            (Some(1000), Some(8000), None)
        );
    }

    #[test]
    fn children_are_told_apart_and_the_last_one_may_be_unseen() {
        let log = read(
            &[
                line(1, 1, "child_started", ",\"pid\":7,\"restart\":0"),
                line(2, 1, "child_ended", ",\"pid\":7,\"exit\":\"exit 1\",\"code\":1,\"signal\":null,\"finished\":false"),
                line(3, 1, "restarting", ",\"in_seconds\":0.5,\"restart\":1"),
                line(4, 1, "child_started", ",\"pid\":8,\"restart\":1"),
                // Of a process that is not known.
                line(5, 1, "child_ended", ",\"pid\":9,\"exit\":\"exit 0\",\"finished\":true"),
                line(6, 2, "child_started", ",\"pid\":7,\"restart\":0"),
                line(7, 2, "child_ended", ",\"pid\":7,\"exit\":\"killed by SIGTERM\",\"code\":null,\"signal\":15,\"finished\":true"),
            ]
            .concat(),
        );
        let seen: Vec<_> = log
            .children
            .iter()
            .map(|child| {
                (
                    child.run,
                    child.pid,
                    child.restart,
                    child.ended_at_ms,
                    child.is_finished,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (1, 7, 0, Some(2000), false),
                (1, 8, 1, None, false),
                (2, 7, 0, Some(7000), true)
            ]
        );
        assert_eq!(
            (log.children[0].code, log.children[2].signal),
            (Some(1), Some(15))
        );
        let fields = [("in_seconds", "0.5"), ("restart", "1")];
        assert_eq!(
            log.marks[0].fields,
            fields.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_is_no_event_is_left_out() {
        let long = format!("\"{}\"\n", "x".repeat(MAX_LINE));
        let torn = line(3, 1, "limit_warning", "");
        let log = read(
            &[
                "\n{}\n[1]\nnonsense\n\u{0}\n",
                &long,
                &line(1, 1, "checkpoint", ",\"id\":4"),
                &line(2, 1, "something_new", ""),
                "{\"timestamp\":\"yesterday\",\"event\":\"checkpoint\",\"run\":1}\n",
                torn.trim_end(),
            ]
            .concat(),
        );
        let events: Vec<&str> = log.marks.iter().map(|mark| mark.event.as_str()).collect();
        assert_eq!(
            events,
            ["checkpoint"],
            "a line without its end was cut off by a power cut"
        );
        assert_eq!(log.last_of(1), Some(2000));
        assert_eq!(read("").last_of(1), None);
    }

    #[test]
    fn only_the_last_moments_are_kept() {
        let one = line(1, 1, "checkpoint", ",\"id\":0");
        let last = line(2, 1, "checkpoint", ",\"id\":1");
        let log = read(&(one.repeat(MAX_MOMENTS + 10) + &last));
        assert_eq!(log.marks.len(), MAX_MOMENTS);
        assert_eq!(log.marks.back().map(|mark| mark.at_ms), Some(2000));
    }
}
