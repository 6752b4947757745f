//! `safepoint checkpoint export`: one generation as gzip and JSON Lines.

use safepoint::Result;
use serde_json::json;

use super::place;
use crate::args::ExportArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};

/// Runs `safepoint checkpoint export`.
pub(super) fn command(context: &Context, args: &ExportArgs) -> Result<Exit> {
    let which = &args.which;
    let reader = place::open(context, &which.place)?;
    let name = place::name(&reader, which.name.as_deref())?;
    let generation = place::generation(&reader, &name, which.generation)?;
    let path = reader.export(&name, generation, &args.to)?;
    let mut page = Page::new();
    if context.is_json {
        page.json(&with_schema(json!({
            "name": name,
            "generation": generation,
            "path": path.display().to_string(),
        })));
    } else {
        page.line(&path.display().to_string());
    }
    page.finish()?;
    context.say(&format!("  exported generation {generation} of `{name}`"));
    Ok(Exit::Code(exit::DONE))
}
