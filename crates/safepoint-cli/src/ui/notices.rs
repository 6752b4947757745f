//! Notices as sentences.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use safepoint::job::{InProgress, Notice};
use safepoint::shutdown::{Mode, StopRequest};

use crate::render::{safe, shorten};
use crate::time::show_duration;

/// A sentence and how talkative one must be to hear it (0 unless asked otherwise).
pub(super) struct Line {
    pub(super) level: i8,
    pub(super) text: String,
}

/// What a notice says, if it says anything.
pub(super) fn line(notice: &Notice, job: &str) -> Option<Line> {
    let yellow = Style::new().fg_color(Some(AnsiColor::Yellow.into()));
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    let (level, text) = match notice {
        Notice::Started {
            run,
            done,
            after_crash,
            ended_strays,
            renewed,
            retried,
        } => (
            0,
            started(
                job,
                *run,
                *done,
                *after_crash,
                *ended_strays,
                *renewed,
                *retried,
            ),
        ),
        Notice::AttemptFailed {
            key,
            attempt,
            error,
            again_in,
        } => {
            let then = match again_in {
                Some(wait) => format!("again in {}", show_duration(*wait)),
                None => format!("{red}dead{red:#}"),
            };
            (
                0,
                format!(
                    "{yellow}item {}{yellow:#}: attempt {attempt} failed: {}; {then}",
                    shorten(key, 60),
                    shorten(error, 300)
                ),
            )
        }
        Notice::Refused { key, error } => (
            0,
            format!(
                "{yellow}item {}{yellow:#}: {}; {red}dead{red:#}",
                shorten(key, 60),
                shorten(error, 300)
            ),
        ),
        Notice::Duplicate { key, of } => (
            1,
            format!(
                "item {}: left out, the key is that of item {of}",
                shorten(key, 60)
            ),
        ),
        Notice::WorkerFault { slot, error } => (
            0,
            format!("{yellow}worker {slot}{yellow:#} {}", shorten(error, 300)),
        ),
        Notice::Paused { lasts } => (
            0,
            format!(
                "safepoint: paused for {}: a command said \"not now\"",
                show_duration(*lasts)
            ),
        ),
        Notice::Stopping {
            request,
            in_progress,
            remaining,
        } => (-1, stopping(request, *in_progress, *remaining)),
        Notice::Terminating { in_progress } => (
            0,
            format!("safepoint: ending {in_progress} in progress; they run again next time"),
        ),
        Notice::InProgress(list) => (-2, in_progress(list)),
        Notice::LeftBehind(count) => (
            0,
            format!("safepoint: ended {count} processes that commands left behind"),
        ),
        Notice::Warning(text) => (
            0,
            format!("{yellow}warning{yellow:#}: {}", safe(text, false)),
        ),
        _ => return None,
    };
    Some(Line { level, text })
}

fn started(
    job: &str,
    run: u32,
    done: u64,
    after_crash: bool,
    ended_strays: usize,
    renewed: usize,
    retried: u64,
) -> String {
    let mut text = format!("safepoint: job `{job}`, run {run}");
    if run > 1 {
        text.push_str(&format!(
            ", {} items are done already",
            crate::time::show_count(done)
        ));
    }
    if after_crash {
        text.push_str("; the run before was killed");
    }
    if ended_strays > 0 {
        text.push_str(&format!(
            "; ended {ended_strays} processes that it left behind"
        ));
    }
    if renewed > 0 {
        text.push_str(&format!("; {renewed} items have new content"));
    }
    if retried > 0 {
        text.push_str(&format!("; {retried} dead items are attempted again"));
    }
    text
}

fn in_progress(list: &[InProgress]) -> String {
    let mut text = format!("safepoint: {} in progress", list.len());
    for item in list {
        let progress = item.progress.as_ref().map_or_else(String::new, |progress| {
            format!(", progress {}", shorten(progress, 80))
        });
        text.push_str(&format!(
            "\n  item {}, attempt {}, process {}, {}{progress}",
            shorten(&item.key, 60),
            item.attempt,
            item.pid,
            show_duration(item.age)
        ));
    }
    text
}

fn stopping(request: &StopRequest, in_progress: usize, remaining: Duration) -> String {
    let why = safe(&request.message, false);
    match (request.mode, request.signal.is_some()) {
        (Mode::Immediate, true) => {
            format!(
                "safepoint: {why} again: ending {in_progress} in progress now; once more kills everything at once"
            )
        }
        (Mode::Immediate, false) => {
            format!("safepoint: {why}: ending {in_progress} in progress now")
        }
        (Mode::Graceful, _) if in_progress == 0 => format!("safepoint: {why}: stopping"),
        (Mode::Graceful, true) => format!(
            "safepoint: {why}: {in_progress} in progress may finish (up to {}); once more ends them now, to run again next time",
            show_duration(whole_seconds(remaining))
        ),
        (Mode::Graceful, false) => {
            format!(
                "safepoint: {why}: {in_progress} in progress may finish (up to {})",
                show_duration(whole_seconds(remaining))
            )
        }
    }
}

/// Rounded: a moment after the beginning, 25 s are left and not 24.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs((time + Duration::from_millis(500)).as_secs())
}
