//! Notices of a supervised run as lines on standard error.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use safepoint::process::Exit;
use safepoint::shutdown::Mode;
use safepoint::supervise::{Notice, Observer};

use crate::context::Context;
use crate::render::safe;
use crate::time::show_duration;

/// Says what happens. Who asked for quiet hears of stops, kills and trouble only.
pub(super) struct Screen {
    verbosity: i8,
    job: String,
}

impl Screen {
    pub(super) fn new(context: &Context, job: &str) -> Self {
        Self {
            verbosity: context.verbosity,
            job: job.to_owned(),
        }
    }
}

impl Observer for Screen {
    fn notice(&mut self, notice: Notice) {
        let Some((level, text)) = line(&notice, &self.job) else {
            return;
        };
        if self.verbosity >= level {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(anstream::stderr().lock(), "safepoint: {text}");
        }
    }
}

/// A sentence, and how talkative one must be to hear it.
fn line(notice: &Notice, job: &str) -> Option<(i8, String)> {
    let yellow = Style::new().fg_color(Some(AnsiColor::Yellow.into()));
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    Some(match notice {
        Notice::Started {
            run,
            after_crash,
            ended_strays,
        } => {
            let mut text = format!("job `{job}`, run {run}");
            if *after_crash {
                text.push_str("; the run before was killed");
            }
            if *ended_strays > 0 {
                text.push_str(&format!(
                    "; ended {ended_strays} processes that it left behind"
                ));
            }
            (i8::from(!*after_crash), text)
        }
        Notice::ChildStarted { pid, restart: 0 } => (1, format!("started process {pid}")),
        Notice::ChildStarted { pid, restart } => {
            (0, format!("started process {pid}, restart {restart}"))
        }
        Notice::ChildEnded { exit, lived } => {
            let level = i8::from(*exit == Exit::Code(0));
            let lived = show_duration(*lived);
            (
                level,
                format!("the command ended after {lived}: {}", exit.describe()),
            )
        }
        Notice::Restarting { wait, restart } => {
            (0, format!("restart {restart} in {}", show_duration(*wait)))
        }
        Notice::CrashLoop { restarts, exit } => (
            -1,
            format!(
                "{red}crash loop{red:#}: {restarts} restarts in a row and never healthy, last {}; giving up",
                exit.describe()
            ),
        ),
        Notice::LimitNear { what } => (
            0,
            format!("{yellow}warning{yellow:#}: {}", safe(what, false)),
        ),
        Notice::Stopping { request, remaining } => {
            let why = safe(&request.message, false);
            let text = match request.mode {
                Mode::Graceful => format!(
                    "{why}: the command may finish (up to {}); once more ends it at once",
                    show_duration(*remaining)
                ),
                Mode::Immediate => format!("{why}: ending the command now; once more kills it"),
            };
            (-1, text)
        }
        Notice::Killing => (
            -1,
            format!("{red}killing{red:#} the command and all it started: its time is over"),
        ),
        Notice::Warning(text) => (
            -1,
            format!("{yellow}warning{yellow:#}: {}", safe(text, false)),
        ),
        _ => return None,
    })
}
