//! The state directory of a job: which file is whose, and what a job may be called.

use std::path::{Path, PathBuf};

use crate::disk::StateDir;
use crate::error::{Error, ErrorKind, Result};
use crate::queue::JOB_DB;

/// Run events and stop requests, one JSON object a line; owned by [`super::events`].
pub(super) const EVENTS: &str = "events.jsonl";
/// What each slot has in progress; owned by [`super::in_progress`].
pub(super) const IN_PROGRESS: &str = "in-progress";
/// What attempts wrote to standard error.
pub(crate) const LOGS: &str = "logs";
/// Files that attempts published.
pub(super) const OUT: &str = "out";
/// Private folders of attempts in progress.
pub(super) const WORK: &str = "work";
/// A stop request from another process; owned by [`super::control`].
pub(super) const STOP: &str = "stop";
/// Standard input, kept so that the job can resume; owned by [`super::input`].
pub(super) const SPOOL: &str = "spool";
/// Room kept back for a full disk.
pub(super) const RESERVE: &str = "reserve";

/// The longest name of a job, in bytes.
pub const MAX_NAME: usize = 100;

/// Where a job's state is, whether or not it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPath {
    /// The directory that holds all jobs (`.safepoint`).
    pub root: PathBuf,
    /// The job's name.
    pub name: String,
}

impl JobPath {
    /// Names a job below `root`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the name is not one path component of `[A-Za-z0-9._-]` of at most [`MAX_NAME`] bytes.
    pub fn new(root: &Path, name: &str) -> Result<Self> {
        let fits = !name.is_empty()
            && name.len() <= MAX_NAME
            && !name.starts_with('.')
            && !name.starts_with('-');
        if !fits || !name.bytes().all(is_name_byte) {
            return Err(Error::invalid(format!("`{}` cannot name a job", name.escape_debug())).with_hint(format!(
                "use up to {MAX_NAME} letters, digits, dots, underscores and hyphens, not beginning with a dot or hyphen"
            )));
        }
        Ok(Self {
            root: root.to_path_buf(),
            name: name.to_owned(),
        })
    }

    /// The name a job gets from its first input: the file's stem, with `-` for what a name cannot have.
    pub fn name_from_input(input: &Path) -> String {
        if input.as_os_str() == "-" {
            return "stdin".to_owned();
        }
        let stem = input.file_stem().unwrap_or_default().to_string_lossy();
        let cleaned: String = stem
            .chars()
            .map(|letter| {
                if u8::try_from(letter).is_ok_and(is_name_byte) {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        let cleaned = cleaned.trim_start_matches(['.', '-']);
        let cleaned = &cleaned[..cleaned.len().min(MAX_NAME)];
        if cleaned.is_empty() {
            "job".to_owned()
        } else {
            cleaned.to_owned()
        }
    }

    /// The job's state directory.
    pub fn dir(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Its database.
    pub fn db(&self) -> PathBuf {
        self.dir().join(JOB_DB)
    }

    /// Its events.
    pub fn events(&self) -> PathBuf {
        self.dir().join(EVENTS)
    }

    /// The folder of what attempts published.
    pub fn out(&self) -> PathBuf {
        self.dir().join(OUT)
    }

    /// The folder of what attempts wrote to standard error.
    pub fn logs(&self) -> PathBuf {
        self.dir().join(LOGS)
    }

    /// Opens the state directory of an existing job.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no such job.
    pub fn open(&self) -> Result<StateDir> {
        StateDir::open(&self.dir()).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::new(
                ErrorKind::NotFound,
                format!("no job `{}` in `{}`", self.name, self.root.display()),
            )
            .with_hint("`safepoint list` shows the jobs there are"),
            _ => error,
        })
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_safe_path_component() {
        let root = Path::new(".safepoint");
        for good in ["words", "a", "run-2026.11", "A_b"] {
            assert!(JobPath::new(root, good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "-x",
            "a/b",
            "a b",
            "ä",
            &"x".repeat(101),
        ] {
            assert!(
                JobPath::new(root, bad).is_err_and(|error| error.kind() == ErrorKind::Invalid),
                "{bad}"
            );
        }
    }

    #[test]
    fn any_input_gives_a_name_that_is_allowed() {
        for (input, name) in [
            ("data/my file.txt", "my-file"),
            ("-", "stdin"),
            ("x.jsonl", "x"),
            (".hidden", "hidden"),
            ("ÄÖ.csv", "job"),
        ] {
            assert_eq!(JobPath::name_from_input(Path::new(input)), name);
            assert!(JobPath::new(Path::new("."), name).is_ok());
        }
    }
}
