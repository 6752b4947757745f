//! `safepoint validate`: whether the state of a job is whole, and the way out if it is not.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use safepoint::queue::{JOB_DB, View};
use safepoint::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::args::ValidateArgs;
use crate::commands::events::each_line;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::time::show_number_of;

/// How many bad lines of `events.jsonl` are named.
const NAMED: usize = 20;

/// Runs `safepoint validate`.
pub(crate) fn command(context: &Context, args: &ValidateArgs) -> Result<Exit> {
    let target = Target::find(context, args.job.as_deref())?;
    let checked = Checked::check(&target)?;
    let problems: Vec<&String> = checked
        .in_database
        .iter()
        .chain(&checked.in_events)
        .collect();
    let mut page = Page::new();
    if context.is_json {
        page.json(&with_schema(json!({
            "job": target.name,
            "path": target.database.display().to_string(),
            "whole": problems.is_empty(),
            "items": checked.items,
            "steps": checked.steps,
            "events": checked.events,
            "problems": problems,
        })));
    } else if problems.is_empty() {
        page.line(&format!(
            "{} is whole: {}, {}",
            target.text(),
            match checked.steps {
                0 => show_number_of(checked.items.unwrap_or(0), "item"),
                steps => show_number_of(steps, "step"),
            },
            show_number_of(checked.events, "event")
        ));
    } else {
        for problem in &problems {
            page.quote("problem: ", problem);
        }
    }
    page.finish()?;
    if problems.is_empty() {
        return Ok(Exit::Code(exit::DONE));
    }
    let damaged = Error::new(
        ErrorKind::Corrupt,
        format!(
            "{} is damaged: {} found",
            target.text(),
            show_number_of(problems.len() as u64, "problem")
        ),
    );
    Err(damaged.with_hint(target.way_out(!checked.in_database.is_empty())))
}

/// What is to be checked.
struct Target {
    /// The job, if it is one of the state directory's.
    name: Option<String>,
    database: PathBuf,
    events: Option<PathBuf>,
}

impl Target {
    /// A job by its name, or else a path.
    fn find(context: &Context, name: Option<&str>) -> Result<Self> {
        let path = name.map(Path::new);
        match context.job(name) {
            Ok(job) => Ok(Self {
                database: job.db(),
                events: Some(job.events()),
                name: Some(job.name),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => match path {
                Some(path) if path.is_dir() => Ok(Self {
                    name: None,
                    database: path.join(JOB_DB),
                    events: Some(path.join("events.jsonl")),
                }),
                Some(path) if path.exists() => Ok(Self {
                    name: None,
                    database: path.to_path_buf(),
                    events: None,
                }),
                Some(_) => Err(error.with_hint(
                    "name a job (`safepoint list` shows them), a state directory or a `job.db`",
                )),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("job `{name}`"),
            None => format!("`{}`", self.database.display()),
        }
    }

    fn way_out(&self, is_in_database: bool) -> String {
        if !is_in_database {
            return "only `events.jsonl` is damaged, which no run depends on: move it away"
                .to_owned();
        }
        let path = safepoint::job::quote(self.database.as_os_str().as_bytes());
        let fresh = match &self.name {
            Some(name) => format!(
                "; or begin anew with `safepoint run --fresh`, which keeps this state as `{name}.previous`"
            ),
            None => String::new(),
        };
        if !self.database.exists() {
            return format!("put a backup back{fresh}");
        }
        format!(
            "put a backup back; or copy what is readable with SQLite's own shell: `sqlite3 {path} .recover | sqlite3 recovered.db` (or `.dump`, if it was built without that){fresh}"
        )
    }
}

/// What was found.
#[derive(Default)]
struct Checked {
    in_database: Vec<String>,
    in_events: Vec<String>,
    items: Option<u64>,
    steps: u64,
    events: u64,
}

impl Checked {
    /// Damage is a finding; what keeps one from looking is an error.
    fn check(target: &Target) -> Result<Self> {
        let mut checked = Self::default();
        match checked.database(&target.database) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                checked.in_database.push(error.chain());
            }
            other => other?,
        }
        if let Some(events) = &target.events {
            checked.events(events)?;
        }
        Ok(checked)
    }

    fn database(&mut self, path: &Path) -> Result<()> {
        if !path.exists() {
            self.in_database
                .push(format!("`{}` is gone", path.display()));
            return Ok(());
        }
        let view = View::open(path)?;
        self.in_database
            .extend(view.validate()?.into_iter().map(|problem| problem.0));
        if self.in_database.is_empty() {
            // Each of these reads all columns of its rows.
            view.job()?;
            view.definition()?;
            view.runs()?;
            self.items = Some(view.progress()?.counts.touched());
            self.steps = view.step_counts()?.steps();
            view.for_each_step(|_| Ok(true))?;
            view.for_each_effect(|_| Ok(true))?;
        }
        Ok(())
    }

    fn events(&mut self, path: &Path) -> Result<()> {
        let mut bad = 0_usize;
        each_line(path, |number, line, is_whole| {
            let event = serde_json::from_slice::<Map<String, Value>>(line);
            if event
                .is_ok_and(|event| event.contains_key("event") && event.contains_key("timestamp"))
            {
                self.events += 1;
            } else if is_whole {
                // A last line without a newline was cut short by a crash, which the format allows.
                bad += 1;
                if bad <= NAMED {
                    self.in_events
                        .push(format!("line {number} of `events.jsonl` is no event"));
                }
            }
            true
        })?;
        if bad > NAMED {
            self.in_events.push(format!(
                "{} more lines of `events.jsonl` are no events",
                bad - NAMED
            ));
        }
        Ok(())
    }
}
