//! Notices of a supervised run as lines on standard error.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use safepoint::process::Exit;
use safepoint::shutdown::Mode;
use safepoint::supervise::{Notice, Observer};

use crate::context::Context;
use crate::render::safe;
use crate::time::show_duration;

/// Lines that may wait for a slow terminal; more are left out.
const BACKLOG: usize = 256;

/// How long the last lines may take to be written.
const LAST: Duration = Duration::from_millis(500);

/// Says what happens. Who asked for quiet hears of stops, kills and trouble only.
///
/// The lines are written by a thread, so that a terminal or a pipe that nobody reads keeps nobody from being stopped.
pub(super) struct Screen {
    verbosity: i8,
    job: String,
    /// Nothing when there is no thread to be had: then nothing is said.
    lines: Option<SyncSender<String>>,
    /// Hangs up when all is written.
    written: Receiver<()>,
}

impl Screen {
    pub(super) fn new(context: &Context, job: &str) -> Self {
        let (lines, waiting) = sync_channel::<String>(BACKLOG);
        let (done, written) = channel::<()>();
        let started = std::thread::Builder::new()
            .name("safepoint-screen".into())
            .spawn(move || {
                for line in waiting {
                    // Nobody is left to tell if standard error is closed.
                    let _ = writeln!(anstream::stderr().lock(), "safepoint: {line}");
                }
                drop(done);
            });
        Self {
            verbosity: context.verbosity,
            job: job.to_owned(),
            lines: started.is_ok().then_some(lines),
            written,
        }
    }
}

impl Screen {
    /// Says a sentence to the person, unless `--quiet` was given.
    pub(super) fn say(&self, text: &str) {
        self.write(0, text.to_owned());
    }

    fn write(&self, level: i8, text: String) {
        if let Some(lines) = &self.lines
            && self.verbosity >= level
        {
            // One that does not fit is left out.
            let _ = lines.try_send(text);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.lines.take().is_some() {
            let _ = self.written.recv_timeout(LAST);
        }
    }
}

impl Observer for Screen {
    fn notice(&mut self, notice: Notice) {
        if let Some((level, text)) = line(&notice, &self.job) {
            self.write(level, text);
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
