//! `safepoint checkpoint validate`: reads every byte of every generation.

use safepoint::checkpoint::{CheckpointReader, Validated};
use safepoint::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::place;
use crate::args::CheckpointArgs;
use crate::commands::list::error_object;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::show_bytes;
use crate::time::show_number_of;

/// Runs `safepoint checkpoint validate`.
pub(super) fn command(context: &Context, args: &CheckpointArgs) -> Result<Exit> {
    let reader = place::open(context, &args.place)?;
    let checked = check(&reader, args.name.as_deref())?;
    let damaged = checked.iter().filter(|found| found.outcome.is_err());
    let damaged = damaged.count() as u64;
    let mut page = Page::new();
    if context.is_json {
        let generations: Vec<Value> = checked.iter().map(object).collect();
        page.json(&with_schema(json!({
            "path": reader.path().display().to_string(),
            "whole": damaged == 0,
            "generations": generations,
        })));
    } else {
        for problem in problems(&checked) {
            page.quote("problem: ", &problem);
        }
        if damaged == 0 {
            let bytes = checked
                .iter()
                .filter_map(|found| found.outcome.as_ref().ok());
            page.line(&format!(
                "`{}` is whole: {}, {} read",
                reader.path().display(),
                show_number_of(checked.len() as u64, "generation"),
                show_bytes(bytes.sum())
            ));
        }
    }
    page.finish()?;
    if damaged == 0 {
        return Ok(Exit::Code(exit::DONE));
    }
    let message = format!(
        "`{}` is damaged: {} of {}",
        reader.path().display(),
        damaged,
        show_number_of(checked.len() as u64, "generation")
    );
    Err(Error::new(ErrorKind::Corrupt, message).with_hint(WAY_OUT))
}

/// What to do about a damaged generation.
pub(crate) const WAY_OUT: &str = "the program goes on from the newest generation that is whole, and moves damaged ones aside; or put a copy of the file back";

/// Reads all generations of a state, or of all states.
///
/// # Errors
///
/// Kind `NotFound` when there is no such state; `Io` when the directory cannot be read.
pub(crate) fn check(reader: &CheckpointReader, name: Option<&str>) -> Result<Vec<Validated>> {
    let mut checked = Vec::new();
    for name in place::names(reader, name)? {
        checked.extend(reader.validate(&name)?);
    }
    Ok(checked)
}

/// What is wrong, a line each.
pub(crate) fn problems(checked: &[Validated]) -> impl Iterator<Item = String> {
    checked
        .iter()
        .filter_map(|found| Some(found.outcome.as_ref().err()?.chain()))
}

fn object(found: &Validated) -> Value {
    let (bytes, error) = match &found.outcome {
        Ok(bytes) => (json!(bytes), Value::Null),
        Err(error) => (Value::Null, error_object(error)),
    };
    json!({
        "name": found.name,
        "generation": found.generation,
        "path": found.path.display().to_string(),
        "payload_bytes": bytes,
        "error": error,
    })
}
