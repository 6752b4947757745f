//! Kills `safepoint run` over and over, resumes it, and checks what it had acknowledged.
//!
//! One *round* is one job in a fresh directory: some runs that are struck, then runs that are not, until the
//! job has finished; then everything is verified. What is acknowledged is what the command printed on its
//! standard output, a whole line at a time; no item may be lost after that, or run again.
//!
//! 1. The worker script notes each attempt in a side file before it ends, with the number of the run as the
//!    harness counts them, so that the command under test is not asked about itself.
//! 2. Every process of a round carries `STORM_DIR` in its environment. By it the survivors are found and, at
//!    the end of a round, ended.

mod blow;
mod launch;
mod power;
mod report;
mod scenario;
mod stored;
mod survivors;
mod verify;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use blow::{Blow, Victims};
pub use power::{CutReport, PowerCuts};
pub use report::Report;
pub use scenario::{Kind, Scenario};
pub use stored::missing;

use crate::faults::{Counter, Faults};
use crate::image::scratch;
use crate::random::Random;
use crate::trace::Trace;
use launch::Run;

/// The name of the job in every round.
pub const JOB: &str = "storm";

/// A command under test and what is done to it.
#[derive(Clone, Debug)]
pub struct Storm {
    /// The command without its subcommand: the path of the binary, or an interpreter and a script.
    pub command: Vec<OsString>,
    /// What the process under faults is called, if not as the file of `command[0]`.
    pub program: Option<String>,
    /// More options for `run`.
    pub options: Vec<OsString>,
    /// The job.
    pub scenario: Scenario,
    /// How a run is struck.
    pub blow: Blow,
    /// Who dies.
    pub victims: Victims,
    /// How many jobs.
    pub rounds: u32,
    /// How many runs of a job are struck, one after the other, before it is left in peace.
    pub kills: u32,
    /// How many runs in peace a job may need; one is enough unless something is wrong.
    pub patience: u32,
    /// How long a run may take.
    pub time_limit: Duration,
    /// Decides delays and calls.
    pub seed: u64,
}

/// A run without faults, recorded.
#[derive(Debug)]
pub struct Recording {
    /// What it did below its state directory, and what it printed.
    pub trace: Trace,
    /// The round's directory, with `.safepoint` and `input.txt`.
    pub folder: tempfile::TempDir,
}

impl Storm {
    /// Ten rounds of three kills at random times.
    pub fn new(binary: impl Into<OsString>) -> Self {
        Self {
            command: vec![binary.into()],
            program: None,
            options: Vec::new(),
            scenario: Scenario::default(),
            blow: Blow::Delay {
                longest: Duration::from_millis(150),
            },
            victims: Victims::Runner,
            rounds: 10,
            kills: 3,
            patience: 3,
            time_limit: Duration::from_secs(60),
            seed: 1,
        }
    }

    /// Does all rounds.
    ///
    /// # Errors
    ///
    /// The harness itself could not do something. What the command did wrong is in the report.
    pub fn run(&self) -> io::Result<Report> {
        let mut report = Report::new(self.seed);
        let mut random = Random::new(self.seed);
        for round in 0..self.rounds {
            self.round(round, &mut random, &mut report)?;
        }
        Ok(report)
    }

    fn round(&self, round: u32, random: &mut Random, report: &mut Report) -> io::Result<()> {
        let folder = scratch()?;
        let directory = folder.path().canonicalize()?;
        let _guard = survivors::EndAll(&directory);
        self.scenario.write_to(&directory)?;
        let mut runs: Vec<Run> = Vec::new();
        let mut peaceful = 0;
        while !runs.last().is_some_and(Run::finished) && peaceful < self.patience {
            let number = runs.len() + 1;
            let strike = (number <= self.kills as usize).then(|| self.blow.draw(random));
            report.runs += 1;
            report.kills += u64::from(strike.is_some());
            peaceful += u32::from(strike.is_none());
            let run = launch::launch(self, &directory, number, strike)?;
            report.fired += u64::from(run.fired);
            if let Some(complaint) = run.complaint(strike.is_some()) {
                report.problem(format!("round {round}, run {number}: {complaint}"));
            }
            runs.push(run);
        }
        if runs.last().is_some_and(Run::finished) {
            report.finished += 1;
            verify::verify(self, &directory, &runs, round, report)?;
        } else {
            report.problem(format!(
                "round {round}: not finished after {} runs",
                runs.len()
            ));
        }
        Ok(())
    }

    /// How many file operations a whole run in peace makes below its state directory: the calls to strike at.
    ///
    /// # Errors
    ///
    /// It did not finish, or the harness could not do something.
    pub fn count_calls(&self) -> io::Result<u64> {
        let folder = scratch()?;
        let counter = Counter::new(&folder.path().join("count"))?;
        self.in_peace(folder.path(), |faults| faults.count(&counter))?;
        counter.calls()
    }

    /// Records a whole run in peace, for [`crate::image::History`]; an image of it belongs in a directory
    /// `.safepoint`. With `change` the faults can be changed, say by [`Faults::lie`].
    ///
    /// # Errors
    ///
    /// As for [`Storm::count_calls`].
    pub fn record(&self, change: impl Fn(Faults) -> Faults) -> io::Result<Recording> {
        let folder = scratch()?;
        let trace = folder.path().join("trace");
        self.in_peace(folder.path(), |faults| change(faults.record(&trace)))?;
        Ok(Recording {
            trace: Trace::read(&trace)?,
            folder,
        })
    }

    fn in_peace(&self, folder: &Path, faults: impl Fn(Faults) -> Faults) -> io::Result<()> {
        let directory = folder.canonicalize()?;
        let _guard = survivors::EndAll(&directory);
        self.scenario.write_to(&directory)?;
        let faults = faults(self.faults(&directory)?);
        let run = launch::run_under(self, &directory, 1, None, Some(&faults))?;
        if run.finished() {
            return Ok(());
        }
        Err(io::Error::other(
            run.complaint(false)
                .unwrap_or_else(|| "the run did not finish".to_owned()),
        ))
    }

    pub(crate) fn faults(&self, directory: &Path) -> io::Result<Faults> {
        let file = Path::new(&self.command[0])
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        Faults::new(
            self.program.as_deref().unwrap_or(&file),
            &directory.join(".safepoint"),
        )
    }
}

/// Where a round keeps its job's database.
pub fn database(directory: &Path) -> PathBuf {
    directory.join(".safepoint").join(JOB).join("job.db")
}
