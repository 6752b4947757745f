//! One run of the command, struck or in peace.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::blow::{Strike, Victims};
use super::{JOB, Storm, scenario, survivors};
use crate::faults::Faults;
use crate::trace::complete_lines;

/// How a run ended, and what it had said by then.
#[derive(Debug)]
pub(super) struct Run {
    status: ExitStatus,
    /// It died of the kill that was planned.
    pub(super) fired: bool,
    timed_out: bool,
    pub(super) acknowledged: Vec<String>,
    stderr: String,
}

impl Run {
    /// A run that ended with these lines printed, as far as a recording of it goes.
    pub(super) fn recorded(acknowledged: Vec<String>) -> Self {
        Self {
            status: ExitStatus::from_raw(0),
            fired: false,
            timed_out: false,
            acknowledged,
            stderr: String::new(),
        }
    }

    /// All items are done, or dead.
    pub(super) fn finished(&self) -> bool {
        matches!(self.status.code(), Some(0 | 3))
    }

    /// What is wrong with how it ended.
    pub(super) fn complaint(&self, struck: bool) -> Option<String> {
        if self.timed_out {
            return Some(format!("stuck, ended by the harness: {}", self.stderr));
        }
        let expected = self.finished() || (struck && self.fired);
        (!expected).then(|| format!("ended with {}: {}", self.status, self.stderr))
    }
}

pub(super) fn launch(
    storm: &Storm,
    directory: &Path,
    number: usize,
    strike: Option<Strike>,
) -> io::Result<Run> {
    let faults = match strike {
        Some(Strike::At(call, when)) => Some(storm.faults(directory)?.kill(call, when)),
        _ => None,
    };
    run_under(storm, directory, number, strike, faults.as_ref())
}

pub(super) fn run_under(
    storm: &Storm,
    directory: &Path,
    number: usize,
    strike: Option<Strike>,
    faults: Option<&Faults>,
) -> io::Result<Run> {
    let (stdout, stderr) = (
        directory.join(format!("stdout-{number}")),
        directory.join(format!("stderr-{number}")),
    );
    let mut command = command(storm, directory, number);
    command
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?);
    if let Some(faults) = faults {
        faults.apply(&mut command)?;
    }
    let mut child = command.spawn()?;
    let delay = match strike {
        Some(Strike::After(delay)) => Some(delay),
        _ => None,
    };
    let (status, timed_out) = wait(&mut child, delay, storm.time_limit)?;
    let fired = strike.is_some() && !timed_out && status.signal() == Some(9);
    if (fired && storm.victims == Victims::RunnerAndChildren) || timed_out {
        survivors::end_all(directory);
    }
    let stderr = fs::read(&stderr)?;
    let tail = &stderr[stderr.len().saturating_sub(2000)..];
    Ok(Run {
        status,
        fired,
        timed_out,
        acknowledged: complete_lines(&fs::read(&stdout)?),
        stderr: String::from_utf8_lossy(tail).into_owned(),
    })
}

fn command(storm: &Storm, directory: &Path, number: usize) -> Command {
    let mut command = Command::new(&storm.command[0]);
    command
        .args(&storm.command[1..])
        .arg("run")
        .arg("--state-dir")
        .arg(directory.join(".safepoint"));
    command.args([
        "--name",
        JOB,
        "-j",
        "4",
        "--retry-delay",
        "10ms",
        "--crash-limit",
        "1000000",
    ]);
    command.args(["--progress", "none", "--output", "arrival"]);
    command.args([
        "--retries",
        &storm.scenario.attempts.saturating_sub(1).to_string(),
    ]);
    command
        .args(&storm.options)
        .arg(directory.join(scenario::INPUT))
        .args(["--", "sh"]);
    command.arg(directory.join(scenario::SCRIPT)).arg("{}");
    command
        .env("STORM_DIR", directory)
        .env("STORM_RUN", number.to_string());
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// Waits, kills when the delay is over, and gives up at the limit.
fn wait(
    child: &mut Child,
    delay: Option<Duration>,
    limit: Duration,
) -> io::Result<(ExitStatus, bool)> {
    let start = Instant::now();
    let mut struck = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        let elapsed = start.elapsed();
        if elapsed > limit {
            child.kill()?;
            return Ok((child.wait()?, true));
        }
        let due = delay
            .filter(|_| !struck)
            .map(|delay| delay.saturating_sub(elapsed));
        if due == Some(Duration::ZERO) {
            child.kill()?;
            struck = true;
        }
        let nap = Duration::from_millis(1);
        thread::sleep(due.map_or(nap, |due| due.min(nap)));
    }
}
