//! `safepoint events`: what happened to a job.

use std::fs::File;
use std::io::{BufRead, BufReader};

use safepoint::{Error, Result};
use serde_json::{Map, Value};

use crate::args::EventsArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::Page;
use crate::render::{safe, safe_json};
use crate::time::show_number_of;

/// Runs `safepoint events`.
pub(crate) fn command(context: &Context, args: &EventsArgs) -> Result<Exit> {
    let path = context.job(args.job.job.as_deref())?;
    path.open()?;
    let mut page = Page::new();
    let mut unreadable = 0_u64;
    each_line(&path.events(), |_, line, is_whole| {
        let text = String::from_utf8_lossy(line);
        if context.is_json {
            // The last line can be cut short by a power cut: it is not an event.
            return !is_whole || page.line(&safe_json(&text));
        }
        if let Ok(event) = serde_json::from_slice::<Map<String, Value>>(line) {
            page.line(&sentence(&event))
        } else {
            unreadable += 1;
            true
        }
    })?;
    page.finish()?;
    if unreadable > 0 {
        context.say(&format!(
            "warning: left out {} of `{}` that cannot be read as events",
            show_number_of(unreadable, "line"),
            path.events().display()
        ));
    }
    Ok(Exit::Code(exit::DONE))
}

/// Calls `each` with the number of every line that is not empty, the line, and whether it ends with a newline, until that returns
/// false. No file has no lines.
pub(crate) fn each_line(
    path: &std::path::Path,
    mut each: impl FnMut(u64, &[u8], bool) -> bool,
) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        line.clear();
        let read = reader
            .read_until(b'\n', &mut line)
            .map_err(|error| Error::io("read", path, error))?;
        if read == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n");
        let text = line.trim_ascii_end();
        if !text.is_empty() && !each(number, text, is_whole) {
            return Ok(());
        }
    }
}

fn sentence(event: &Map<String, Value>) -> String {
    let text = |name: &str| event.get(name).map(word).unwrap_or_default();
    let details: Vec<String> = event
        .iter()
        .filter(|(name, value)| {
            !["timestamp", "event", "job", "run"].contains(&name.as_str()) && !value.is_null()
        })
        .map(|(name, value)| format!("{}={}", safe(name, false), word(value)))
        .collect();
    format!(
        "{}  run {}  {:19}  {}",
        text("timestamp"),
        text("run"),
        text("event"),
        details.join(" ")
    )
    .trim_end()
    .to_owned()
}

/// A value as one word, in quotes where it has spaces.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) if !text.contains([' ', '"', '=']) => safe(text, false),
        other => safe_json(&other.to_string()).into_owned(),
    }
}
