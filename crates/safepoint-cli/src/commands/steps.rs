//! `safepoint steps`: what a program has recorded step by step, and what a person says of an effect in doubt.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use safepoint::clock::rfc_3339;
use safepoint::queue::{EffectRow, JOB_DB, StepRow, View};
use safepoint::steps::{Resolution, resolve};
use safepoint::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::{safe, shorten};
use crate::time::{show_ago, show_duration};

/// `safepoint steps`.
#[derive(Debug, Args)]
pub(crate) struct StepsArgs {
    #[command(subcommand)]
    command: StepsCommand,
}

#[derive(Debug, Subcommand)]
enum StepsCommand {
    /// List the steps and effects, in the order in which they began
    List {
        /// A job's name, or the path of a directory of steps [default: the latest job]
        #[arg(value_name = "JOB|DIR", value_hint = ValueHint::DirPath)]
        job: Option<String>,
    },
    /// Say what is true of an effect that is in doubt
    ///
    /// An effect is in doubt when its program was killed between its beginning and its end. Find out what happened, then say it: the next run goes
    /// on from there.
    Resolve {
        /// A job's name, or the path of a directory of steps
        #[arg(value_name = "JOB|DIR", value_hint = ValueHint::DirPath)]
        job: String,
        /// The effect
        #[arg(value_name = "KEY")]
        key: String,
        /// It has happened; its result, as JSON
        #[arg(
            long,
            value_name = "JSON",
            group = "truth",
            required_unless_present = "again"
        )]
        done: Option<String>,
        /// It has not happened: the next run brings it about, with the same idempotency key
        #[arg(long, group = "truth")]
        again: bool,
    },
}

/// Runs `safepoint steps`.
pub(crate) fn command(context: &Context, args: &StepsArgs) -> Result<Exit> {
    match &args.command {
        StepsCommand::List { job } => list(context, &directory(context, job.as_deref())?)?,
        StepsCommand::Resolve { job, key, done, .. } => {
            let resolution = done.clone().map_or(Resolution::Again, Resolution::Done);
            let is_done = matches!(resolution, Resolution::Done(_));
            resolve(&directory(context, Some(job))?, key, resolution)?;
            if context.is_json {
                let mut page = Page::new();
                page.json(&with_schema(json!({
                    "effect": key,
                    "state": if is_done { "complete" } else { "released" },
                })));
                page.finish()?;
            } else {
                let what = if is_done {
                    "is complete"
                } else {
                    "runs again when it is asked for"
                };
                context.say(&format!("effect {} {what}", shorten(key, 60)));
            }
        }
    }
    Ok(Exit::Code(exit::DONE))
}

/// The directory of a job, by its name or its path.
fn directory(context: &Context, name: Option<&str>) -> Result<PathBuf> {
    match context.job(name) {
        Ok(job) => Ok(job.dir()),
        Err(error) => match name.map(Path::new) {
            Some(path) if error.kind() == ErrorKind::NotFound && path.join(JOB_DB).exists() => {
                Ok(path.to_path_buf())
            }
            Some(_) if error.kind() == ErrorKind::NotFound => Err(error.with_hint(
                "name a job (`safepoint list` shows them) or the directory that the program opens",
            )),
            _ => Err(error),
        },
    }
}

fn list(context: &Context, directory: &Path) -> Result<()> {
    let path = directory.join(JOB_DB);
    if !path.exists() {
        let error = Error::new(ErrorKind::Corrupt, format!("`{}` is gone", path.display()));
        return Err(error.with_hint("put it back from a backup"));
    }
    let view = View::open(&path)?;
    let (mut steps, mut effects) = (Vec::new(), Vec::new());
    view.for_each_step(|row| {
        steps.push(row);
        Ok(true)
    })?;
    view.for_each_effect(|row| {
        effects.push(row);
        Ok(true)
    })?;
    let mut page = Page::new();
    if context.is_json {
        page.json(&with_schema(json!({
            "job": view.job()?.name,
            "steps": steps.iter().map(step_object).collect::<Vec<_>>(),
            "effects": effects.iter().map(effect_object).collect::<Vec<_>>(),
        })));
    } else if steps.is_empty() && effects.is_empty() {
        context.say("no steps");
    } else {
        let rows: Vec<Line> = steps
            .iter()
            .map(step_line)
            .chain(effects.iter().map(effect_line))
            .collect();
        table(&mut page, rows);
    }
    page.finish()
}

fn step_object(row: &StepRow) -> Value {
    json!({
        "step": row.name,
        "state": row.state.name(),
        "memoised": row.memoised,
        "run": row.run,
        "started_at": rfc_3339(row.started_at_ms),
        "duration_us": row.duration_us,
        "result": row.result.as_deref().map(parsed),
        "error": row.error,
    })
}

fn effect_object(row: &EffectRow) -> Value {
    json!({
        "effect": row.key,
        "state": row.state.name(),
        "idempotency_key": row.idempotency_key,
        "run": row.run,
        "started_at": rfc_3339(row.started_at_ms),
        "duration_us": row.duration_us,
        "result": row.result.as_deref().map(parsed),
        "error": row.error,
    })
}

/// A result as the JSON that it is.
fn parsed(result: &str) -> Value {
    serde_json::from_str(result).unwrap_or_else(|_| Value::String(result.to_owned()))
}

/// Name, state, run, time and age; and why.
struct Line([String; 5], Option<String>);

fn line(
    name: &str,
    state: &str,
    run: u32,
    duration_us: Option<u64>,
    started_at_ms: i64,
    error: Option<&String>,
) -> Line {
    let took = duration_us.map(Duration::from_micros);
    let columns = [
        safe(name, false),
        state.to_owned(),
        run.to_string(),
        took.map_or_else(|| "-".to_owned(), show_duration),
        show_ago(started_at_ms),
    ];
    Line(columns, error.cloned())
}

fn step_line(row: &StepRow) -> Line {
    let (run, took) = (row.run, row.duration_us);
    line(
        &row.name,
        row.state.name(),
        run,
        took,
        row.started_at_ms,
        row.error.as_ref(),
    )
}

fn effect_line(row: &EffectRow) -> Line {
    let (run, took) = (row.run, row.duration_us);
    let name = &format!("effect {}", row.key);
    line(
        name,
        row.state.name(),
        run,
        took,
        row.started_at_ms,
        row.error.as_ref(),
    )
}

fn table(page: &mut Page, lines: Vec<Line>) {
    let header = ["NAME", "STATE", "RUN", "TOOK", "BEGAN"].map(str::to_owned);
    let lines: Vec<Line> = std::iter::once(Line(header, None)).chain(lines).collect();
    let width = |column: usize| {
        let cells = lines
            .iter()
            .map(|Line(cells, _)| cells[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let [w_name, w_state, w_run, w_took, _]: [usize; 5] = std::array::from_fn(width);
    for Line([name, state, run, took, began], error) in &lines {
        let written = page.line(&format!(
            "{name:w_name$}  {state:w_state$}  {run:>w_run$}  {took:>w_took$}  {began}"
        ));
        if !written {
            return;
        }
        if let Some(error) = error {
            page.quote("  error: ", error);
        }
    }
}
