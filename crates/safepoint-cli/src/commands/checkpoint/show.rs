//! `safepoint checkpoint show`: all there is to know of one generation, but its payload.

use safepoint::Result;
use safepoint::checkpoint::Contents;
use safepoint::clock::rfc_3339;
use serde_json::{Value, json};

use super::list::{metadata_object, show_items, show_metrics};
use super::place;
use crate::args::GenerationArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::{safe, show_bytes};
use crate::table::{Cell, Side, Table};
use crate::time::{show_ago, show_count};

/// Runs `safepoint checkpoint show`.
pub(super) fn command(context: &Context, args: &GenerationArgs) -> Result<Exit> {
    let reader = place::open(context, &args.place)?;
    let name = place::name(&reader, args.name.as_deref())?;
    let generation = place::generation(&reader, &name, args.generation)?;
    let contents = reader.contents(&name, generation)?;
    let mut page = Page::new();
    if context.is_json {
        page.json(&with_schema(object(&name, &contents)));
    } else {
        print(&mut page, &name, &contents);
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

fn object(name: &str, contents: &Contents) -> Value {
    let buffers: Vec<Value> = contents
        .buffers
        .iter()
        .map(|buffer| {
            json!({
                "name": buffer.name,
                "type": buffer.element.name(),
                "shape": buffer.shape,
                "bytes": buffer.bytes,
            })
        })
        .collect();
    let mut metadata = metadata_object(&contents.metadata);
    metadata.remove("error");
    metadata.insert("buffers".into(), buffers.into());
    let mut object = json!({
        "name": name,
        "generation": contents.metadata.generation,
        "path": contents.path.display().to_string(),
        "file_bytes": contents.file_bytes,
        "in_journal": contents.in_journal,
        "value_bytes": contents.value_bytes,
    });
    if let Value::Object(object) = &mut object {
        object.extend(metadata);
    }
    object
}

fn print(page: &mut Page, name: &str, contents: &Contents) {
    let metadata = &contents.metadata;
    let details = &metadata.details;
    page.line(&format!("{name}, generation {}", metadata.generation));
    let mut field = |title: &str, text: String| {
        if !text.is_empty() {
            page.line(&format!("  {title:<12} {}", safe(&text, false)));
        }
    };
    field(
        "saved",
        format!(
            "{} ({}), by run {}",
            rfc_3339(metadata.saved_at_ms),
            show_ago(metadata.saved_at_ms),
            metadata.run
        ),
    );
    field("begun", rfc_3339(metadata.started_at_ms));
    field("step", details.step.map(show_count).unwrap_or_default());
    field("items", show_items(details));
    field("last item", details.last_item.clone().unwrap_or_default());
    field("metrics", show_metrics(details));
    if details.pinned {
        field("pinned", "yes: it is never pruned".into());
    }
    if let Some(parent) = &metadata.parent {
        let text = format!("`{}`, generation {}", parent.name, parent.generation);
        field("forked from", text);
    }
    field("fingerprint", metadata.fingerprint.to_string());
    if !details.extra.is_null() {
        field("extra", details.extra.to_string());
    }
    if let Some(bytes) = contents.value_bytes {
        let text = format!("{}, {}", metadata.encoding.name(), show_bytes(bytes));
        field("value", text);
    }
    let kind = if contents.in_journal {
        "a record in"
    } else {
        "file"
    };
    field(kind, contents.path.display().to_string());
    field(
        "size",
        format!(
            "{} for {} of payload, by safepoint {}",
            show_bytes(contents.file_bytes),
            show_bytes(metadata.payload_bytes),
            metadata.written_by
        ),
    );
    if contents.buffers.is_empty() {
        return;
    }
    page.line("");
    let mut table = Table::new([
        ("BUFFER", Side::Left),
        ("TYPE", Side::Left),
        ("SHAPE", Side::Left),
        ("SIZE", Side::Right),
    ]);
    for buffer in &contents.buffers {
        let sides: Vec<String> = buffer.shape.iter().map(u64::to_string).collect();
        table.row([
            Cell::new(&buffer.name),
            Cell::new(buffer.element.name()),
            Cell::new(sides.join(" x ")),
            Cell::new(show_bytes(buffer.bytes)),
        ]);
    }
    table.print(page, "  ", |_, _| true);
}
