//! Count, kill at, fail at, forge or record the file operations of a program.
//!
//! A library is loaded into the program with `LD_PRELOAD` (its source is `preload/faults.c`). It acts only in
//! the program named, not in its children, and only on paths below one directory.
//!
//! Only calls that go through the C library are seen. The standard library and `SQLite` do; `rustix` with its
//! default backend does not (it makes system calls itself), so file operations whose order matters belong to
//! `std::fs`, or the program under test is built with `--cfg rustix_use_libc`. Writes through a shared
//! mapping are not seen either.

mod counter;
mod library;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub use counter::Counter;
pub use library::library;
pub use nix::errno::Errno;

/// When, relative to the call it strikes, the program is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The call is not made.
    Before,
    /// The call is made and nothing else.
    After,
    /// Half of the bytes of a write are written; for any other call the same as `After`.
    Torn,
}

/// What is to happen to the file operations of one program below one directory.
#[derive(Clone, Debug)]
pub struct Faults {
    settings: Vec<(&'static str, OsString)>,
}

impl Faults {
    /// Strikes the program named `program` (the file name of its executable, or of its `argv[0]`), at paths
    /// below `directory`. Nothing happens until one of the other functions says what.
    ///
    /// # Errors
    ///
    /// The directory's parent cannot be resolved. The directory itself need not exist yet.
    pub fn new(program: &str, directory: &Path) -> io::Result<Self> {
        let resolved = match (
            directory.canonicalize(),
            directory.parent(),
            directory.file_name(),
        ) {
            (Ok(path), ..) => path,
            (Err(_), Some(parent), Some(name)) => parent.canonicalize()?.join(name),
            (Err(error), ..) => return Err(error),
        };
        Ok(Self {
            settings: vec![
                ("FAULTS_PROGRAM", program.into()),
                ("FAULTS_DIR", resolved.into()),
            ],
        })
    }

    fn set(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    /// Keeps the numbers of calls and of faults that fired in `counter`.
    pub fn count(self, counter: &Counter) -> Self {
        self.set("FAULTS_COUNT", counter.path())
    }

    /// Counts and strikes these calls only: `open` (that creates or empties), `write`, `pwrite`, `ftruncate`, `fallocate`,
    /// `fsync`, `fdatasync`, `rename`, `link`, `unlink`, `mkdir`, `rmdir` (each with its variants).
    pub fn only(self, calls: &[&str]) -> Self {
        self.set("FAULTS_ONLY", calls.join(","))
    }

    /// The program kills itself at its `call`-th matching call, counted from 1.
    pub fn kill(self, call: u64, when: When) -> Self {
        let when = match when {
            When::Before => "before",
            When::After => "after",
            When::Torn => "torn",
        };
        self.set("FAULTS_AT", call.to_string())
            .set("FAULTS_KILL", when)
    }

    /// The `call`-th matching call and the `calls - 1` after it fail with `error` (`u64::MAX`: all from there on).
    pub fn fail(self, call: u64, calls: u64, error: Errno) -> Self {
        self.set("FAULTS_AT", call.to_string())
            .set("FAULTS_FOR", calls.to_string())
            .set("FAULTS_ERRNO", (error as i32).to_string())
    }

    /// Each sync takes at least this long, as it does on a disk: on a file system in memory it takes no time at all, and what a
    /// program does too early, before the sync has ended, is never seen to come before it.
    pub fn slow_syncs(self, least: Duration) -> Self {
        self.set("FAULTS_SLOW", least.as_micros().to_string())
    }

    /// No file can be made without a name (`O_TMPFILE`), as on a file system that does not have this: such a call is not counted.
    pub fn without_nameless_files(self) -> Self {
        self.set("FAULTS_NAMED", "1")
    }

    /// Each sync claims to succeed and does nothing: the negative control of every power cut. With [`Faults::only`] just those that it
    /// lists: `fsync` for directories and `fdatasync` for files, where the program keeps them apart.
    pub fn lie(self) -> Self {
        self.set("FAULTS_LIE", "1")
    }

    /// Appends every matching operation, and every byte the program writes to its standard output, to `trace`.
    pub fn record(self, trace: &Path) -> Self {
        self.set("FAULTS_TRACE", trace)
    }

    /// Makes `command` run under these faults.
    ///
    /// # Errors
    ///
    /// The library cannot be built; see [`library`].
    pub fn apply(&self, command: &mut Command) -> io::Result<()> {
        command.env("LD_PRELOAD", library()?);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        Ok(())
    }
}
