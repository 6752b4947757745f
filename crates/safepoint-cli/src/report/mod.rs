//! `safepoint report`: all runs of a job on one page, or as figures.

mod csv;
mod html;
mod json;
mod lanes;
mod perfetto;
mod target;

use std::path::Path;

use safepoint::job;
use safepoint::job::history::History;
use safepoint::{Error, Result};

use self::target::Target;
use crate::args::{ReportArgs, ReportFormat};
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint report`.
pub(crate) fn command(context: &Context, args: &ReportArgs) -> Result<Exit> {
    let format = format(context, args);
    // Before a long job is read.
    let mut target = Target::open(args.output.as_deref())?;
    if format == ReportFormat::Html && target.is_terminal() {
        return Err(
            Error::invalid("a page of HTML is nothing to read on a terminal").with_hint(
                "name a file: `safepoint report -o report.html`; or ask for `--format json`",
            ),
        );
    }
    let path = context.job(args.job.job.as_deref())?;
    let history = History::read(&path)?;
    match format {
        ReportFormat::Html => {
            target.put(&html::page(&history))?;
        }
        ReportFormat::Json => {
            target.json(&json::object(&history))?;
        }
        ReportFormat::Csv => csv::write(&mut target, &job::view(&path)?, &history)?,
        ReportFormat::Perfetto => perfetto::write(&mut target, &job::view(&path)?, &history)?,
    }
    if let Some(file) = target.finish()? {
        context.say(&format!("  written: {}", file.display()));
    }
    Ok(Exit::Code(exit::DONE))
}

/// What was asked for, or what the file's ending tells.
fn format(context: &Context, args: &ReportArgs) -> ReportFormat {
    let ending = args.output.as_deref().and_then(Path::extension);
    let ending = ending.and_then(|ending| ending.to_str());
    match (args.format, ending) {
        (Some(format), _) => format,
        (None, _) if context.is_json => ReportFormat::Json,
        (None, Some("json")) => ReportFormat::Json,
        (None, Some("csv")) => ReportFormat::Csv,
        (None, _) => ReportFormat::Html,
    }
}
