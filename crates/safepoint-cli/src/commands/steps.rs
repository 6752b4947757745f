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
    let mut page = Page::new();
    if context.is_json {
        json(&view, &mut page)?;
    } else {
        let counts = view.step_counts()?;
        if counts.steps() + counts.effects == 0 {
            context.say("no steps");
        } else {
            table(&view, &mut page)?;
        }
    }
    page.finish()
}

/// One object, written row by row: results can be large, and many.
fn json(view: &View, page: &mut Page) -> Result<()> {
    let head = with_schema(json!({ "job": view.job()?.name })).to_string();
    page.piece(head.strip_suffix('}').unwrap_or(&head));
    page.piece(",\"steps\":[");
    let mut between = "";
    view.for_each_step(|row| {
        page.piece(std::mem::replace(&mut between, ","));
        Ok(page.piece(&step_object(&row).to_string()))
    })?;
    page.piece("],\"effects\":[");
    let mut between = "";
    view.for_each_effect(|row| {
        page.piece(std::mem::replace(&mut between, ","));
        Ok(page.piece(&effect_object(&row).to_string()))
    })?;
    page.piece("]}\n");
    Ok(())
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

/// Calls `each` for every line, without results, until it returns false.
fn for_each_line(view: &View, mut each: impl FnMut(Line) -> bool) -> Result<()> {
    let mut is_read = true;
    view.for_each_step_in_brief(|row| {
        is_read = each(step_line(&row));
        Ok(is_read)
    })?;
    if is_read {
        view.for_each_effect_in_brief(|row| Ok(each(effect_line(&row))))?;
    }
    Ok(())
}

/// The rows are read twice, first for the widths of the columns, so that none is kept.
fn table(view: &View, page: &mut Page) -> Result<()> {
    let header = ["NAME", "STATE", "RUN", "TOOK", "BEGAN"].map(str::to_owned);
    let mut widths = header.each_ref().map(String::len);
    for_each_line(view, |Line(cells, _)| {
        for (width, cell) in widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        true
    })?;
    let [w_name, w_state, w_run, w_took, _] = widths;
    let mut print = |Line([name, state, run, took, began], error): Line| {
        page.line(&format!(
            "{name:w_name$}  {state:w_state$}  {run:>w_run$}  {took:>w_took$}  {began}"
        )) && error.is_none_or(|error| page.quote("  error: ", &error))
    };
    if print(Line(header, None)) {
        for_each_line(view, print)?;
    }
    Ok(())
}
