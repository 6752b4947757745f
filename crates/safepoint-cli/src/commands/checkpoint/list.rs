//! `safepoint checkpoint list`: a line for each generation.

use anstyle::{AnsiColor, Style};
use safepoint::Result;
use safepoint::checkpoint::{Details, Listed, Metadata};
use safepoint::clock::rfc_3339;
use serde_json::{Map, Value, json};

use super::place;
use crate::args::CheckpointArgs;
use crate::commands::list::error_object;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::show_bytes;
use crate::table::{Cell, Side, Table};
use crate::time::{show_ago, show_count, show_number_of};

/// Runs `safepoint checkpoint list`.
pub(super) fn command(context: &Context, args: &CheckpointArgs) -> Result<Exit> {
    let reader = place::open(context, &args.place)?;
    let mut states = Vec::new();
    for name in place::names(&reader, args.name.as_deref())? {
        let listed = reader.list(&name)?;
        states.push((name, listed));
    }
    let mut page = Page::new();
    if context.is_json {
        let states: Vec<Value> = states.iter().map(state_object).collect();
        page.json(&with_schema(json!({
            "path": reader.path().display().to_string(),
            "states": states,
        })));
    } else if states.is_empty() {
        context.say(&format!("no checkpoints in `{}`", reader.path().display()));
    } else {
        for (number, (name, listed)) in states.iter().enumerate() {
            if number > 0 {
                page.line("");
            }
            let bytes = listed.iter().map(|listed| listed.file_bytes).sum();
            page.line(&format!(
                "{name}: {}, {}",
                show_number_of(listed.len() as u64, "generation"),
                show_bytes(bytes)
            ));
            table(&mut page, listed);
        }
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

fn state_object((name, listed): &(String, Vec<Listed>)) -> Value {
    let generations: Vec<Value> = listed.iter().map(generation_object).collect();
    json!({"name": name, "generations": generations})
}

fn generation_object(listed: &Listed) -> Value {
    let mut object = Map::new();
    object.insert("generation".into(), listed.generation.0.into());
    object.insert("file_bytes".into(), listed.file_bytes.into());
    object.insert("in_journal".into(), listed.in_journal.into());
    match &listed.metadata {
        Ok(metadata) => object.extend(metadata_object(metadata)),
        Err(error) => {
            object.insert("error".into(), error_object(error));
        }
    }
    Value::Object(object)
}

/// The metadata with all fields that they can have, and with times that people read.
pub(super) fn metadata_object(metadata: &Metadata) -> Map<String, Value> {
    let details = &metadata.details;
    let object = json!({
        "saved_at": rfc_3339(metadata.saved_at_ms),
        "started_at": rfc_3339(metadata.started_at_ms),
        "run": metadata.run,
        "step": details.step,
        "items_processed": details.items_processed,
        "items_total": details.items_total,
        "last_item": details.last_item,
        "metrics": details.metrics,
        "pinned": details.pinned,
        "extra": details.extra,
        "parent": metadata.parent,
        "fingerprint": metadata.fingerprint,
        "encoding": metadata.encoding.name(),
        "payload_bytes": metadata.payload_bytes,
        "buffers": metadata.buffers,
        "written_by": metadata.written_by,
        "error": Value::Null,
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn table(page: &mut Page, listed: &[Listed]) {
    let mut table = Table::new([
        ("GENERATION", Side::Right),
        ("SAVED", Side::Left),
        ("STEP", Side::Right),
        ("ITEMS", Side::Right),
        ("SIZE", Side::Right),
        ("METRICS", Side::Left),
        ("STATE", Side::Left),
    ]);
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    let cyan = Style::new().fg_color(Some(AnsiColor::Cyan.into()));
    for listed in listed {
        let generation = Cell::new(listed.generation.to_string());
        let size = Cell::new(show_bytes(listed.file_bytes));
        let empty = Cell::default;
        table.row(match &listed.metadata {
            Ok(metadata) => [
                generation,
                Cell::new(show_ago(metadata.saved_at_ms)),
                Cell::new(metadata.details.step.map(show_count).unwrap_or_default()),
                Cell::new(show_items(&metadata.details)),
                size,
                Cell::new(show_metrics(&metadata.details)),
                match (metadata.details.pinned, listed.in_journal) {
                    (true, false) => Cell::new("ok, pinned").styled(cyan),
                    (true, true) => Cell::new("ok, pinned, in the journal").styled(cyan),
                    (false, true) => Cell::new("ok, in the journal"),
                    (false, false) => Cell::new("ok"),
                },
            ],
            Err(_) => [
                generation,
                empty(),
                empty(),
                empty(),
                size,
                empty(),
                Cell::new("damaged").styled(red),
            ],
        });
    }
    table.print(page, "", |page, number| match &listed[number].metadata {
        Ok(_) => true,
        Err(error) => page.quote("            ", &error.chain()),
    });
}

/// `80/100`, or as much of it as is known.
pub(super) fn show_items(details: &Details) -> String {
    match (details.items_processed, details.items_total) {
        (None, None) => String::new(),
        (Some(processed), None) => show_count(processed),
        (processed, Some(total)) => {
            format!(
                "{}/{}",
                show_count(processed.unwrap_or(0)),
                show_count(total)
            )
        }
    }
}

/// `loss=0.25 accuracy=0.9`.
pub(super) fn show_metrics(details: &Details) -> String {
    let shown: Vec<String> = details
        .metrics
        .iter()
        .map(|(name, value)| format!("{name}={}", show_figure(*value)))
        .collect();
    shown.join(" ")
}

/// A figure in a few digits; `--json` has all of them.
fn show_figure(value: f64) -> String {
    let exact = value.to_string();
    if exact.len() <= 8 {
        exact
    } else if (1e-3..1e6).contains(&value.abs()) {
        format!("{value:.4}")
    } else {
        format!("{value:.3e}")
    }
}
