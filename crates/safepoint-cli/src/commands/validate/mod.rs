//! `safepoint validate`: whether the state of a job is whole, all of it, and the way out if it is not.

mod checked;
mod target;

use safepoint::{Error, ErrorKind, Result};
use serde_json::json;

use self::checked::Checked;
use self::target::Target;
use crate::args::ValidateArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::time::show_number_of;

/// Runs `safepoint validate`.
pub(crate) fn command(context: &Context, args: &ValidateArgs) -> Result<Exit> {
    let target = Target::find(context, args.job.as_deref())?;
    let checked = Checked::check(&target)?;
    let problems: Vec<&String> = checked.problems().collect();
    let mut page = Page::new();
    if context.is_json {
        page.json(&with_schema(json!({
            "job": target.name,
            "path": target.path().display().to_string(),
            "whole": problems.is_empty(),
            "items": checked.items,
            "steps": checked.steps,
            "events": checked.events,
            "generations": checked.generations,
            "cache_entries": checked.entries,
            "problems": problems,
        })));
    } else if problems.is_empty() {
        page.line(&format!("{} is whole: {}", target.text(), checked.text()));
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
    Err(damaged.with_hint(checked.way_out(&target)))
}
