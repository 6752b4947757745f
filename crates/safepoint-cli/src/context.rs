//! What every command needs: where state is, how to speak.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use safepoint::job::JobPath;
use safepoint::{Error, ErrorKind, Result};

use crate::args::{Color, Global};
use crate::render::safe;

/// How to speak, and where state is.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// The directory that holds all jobs.
    pub(crate) state_dir: PathBuf,
    /// Say less (negative) or more (positive).
    pub(crate) verbosity: i8,
    /// Answer in JSON.
    pub(crate) is_json: bool,
    /// Whether standard error is a terminal that may be drawn on.
    pub(crate) draws: bool,
}

impl Context {
    pub(crate) fn new(global: &Global) -> Self {
        match global.color {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
        Self {
            state_dir: global
                .state_dir
                .clone()
                .unwrap_or_else(|| PathBuf::from(".safepoint")),
            verbosity: i8::try_from(global.verbose).unwrap_or(i8::MAX)
                - i8::try_from(global.quiet).unwrap_or(i8::MAX),
            is_json: global.json,
            draws: std::io::stderr().is_terminal(),
        }
    }

    /// Finds a job by its name, by a unique prefix, or the latest one.
    pub(crate) fn job(&self, name: Option<&str>) -> Result<JobPath> {
        let jobs = safepoint::job::list(&self.state_dir)?;
        let Some(name) = name else {
            return jobs.into_iter().next().map(|job| job.path).ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("there are no jobs in `{}`", self.state_dir.display()),
                )
                .with_hint(
                    "start one with `safepoint run`, or name another place with `--state-dir`",
                )
            });
        };
        if let Some(exact) = jobs.iter().find(|job| job.path.name == name) {
            return Ok(exact.path.clone());
        }
        let mut matching: Vec<String> = jobs
            .iter()
            .map(|job| job.path.name.clone())
            .filter(|found| found.starts_with(name))
            .collect();
        match matching.len() {
            1 => JobPath::new(&self.state_dir, &matching.remove(0)),
            0 => Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "no job `{}` in `{}`",
                    safe(name, false),
                    self.state_dir.display()
                ),
            )
            .with_hint("`safepoint list` shows the jobs there are")),
            _ => Err(Error::invalid(format!(
                "`{name}` is the beginning of several jobs: {}",
                matching.join(", ")
            ))
            .with_hint("give more of the name")),
        }
    }

    /// Says a line to the person, unless `--quiet` was given.
    pub(crate) fn say(&self, line: &str) {
        if self.verbosity >= 0 {
            let _ = writeln!(anstream::stderr().lock(), "{line}");
        }
    }
}

/// Says an error with its causes and its hint.
pub(crate) fn say_error(error: &Error) {
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let mut out = anstream::stderr().lock();
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(out, "{red}error{red:#}: {}", safe(&error.chain(), true));
    if let Some(hint) = error.hint() {
        let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
        let _ = writeln!(out, "{cyan}hint{cyan:#}: {}", safe(hint, true));
    }
}

/// The error of writing to standard output. A closed pipe is the reader's choice, and no error.
pub(crate) fn stdout_error(error: std::io::Error) -> Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, "cannot write to standard output").with_source(error))
}
