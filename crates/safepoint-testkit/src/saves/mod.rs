//! A program that saves checkpoints, and what must be there after it was killed, its disk failed or its power was cut.
//!
//! The program is `src/bin/saver.rs`. It opens a store, says what it found, and saves states whose content follows from their step; the line
//! of a save comes when `save` has returned, so that each such line is an acknowledgement.

mod cuts;
mod place;
mod plan;
mod said;
mod storm;
mod verify;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

pub use cuts::{Cuts, Recorded, policies, shapes};
pub use place::{Copy, Place};
pub use plan::{How, Plan};
pub use said::Said;
pub use storm::{SaveReport, SaveStorm};
pub use verify::{Acknowledged, Verdict, verify};

use crate::faults::Faults;

/// What the program is called, for [`Faults::new`].
pub const PROGRAM: &str = "saver";

/// The program, and what it is to save.
#[derive(Clone, Debug)]
pub struct Saver {
    /// Where it is; see [`crate::helper`].
    pub program: PathBuf,
    /// What it saves.
    pub plan: Plan,
}

/// How a run of it ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All that it said.
    pub said: Vec<Said>,
}

impl Ended {
    /// What it acknowledged.
    pub fn acknowledged(&self) -> Acknowledged {
        Acknowledged::of(&self.said)
    }
}

impl Saver {
    /// The program that was built beside this test.
    ///
    /// # Errors
    ///
    /// As [`crate::helper`].
    pub fn new(plan: Plan) -> io::Result<Self> {
        Ok(Self {
            program: crate::helper(PROGRAM)?,
            plan,
        })
    }

    /// The same program with another plan.
    pub fn with(&self, plan: Plan) -> Self {
        Self {
            plan,
            ..self.clone()
        }
    }

    /// The command for a store in `directory`, with its output piped.
    pub fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg::<&OsStr>(directory.as_ref())
            .args(self.plan.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    /// Runs it to its end, which may be a fault's.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn run(&self, directory: &Path, faults: Option<&Faults>) -> io::Result<Ended> {
        let mut command = self.command(directory);
        if let Some(faults) = faults {
            faults.apply(&mut command)?;
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        Ok(Ended {
            status: output.status,
            said: Said::all(&output.stdout),
        })
    }
}
