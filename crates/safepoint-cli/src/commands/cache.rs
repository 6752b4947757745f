//! `safepoint cache`: what is kept of results that were expensive to compute.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use safepoint::checkpoint::cache::{Cache, Entry, Validated};
use safepoint::clock::rfc_3339;
use safepoint::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::args::{CacheArgs, CacheCommand};
use crate::commands::list::error_object;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::{shorten, show_bytes};
use crate::table::{Cell, Side, Table};
use crate::time::{show_ago, show_count, show_duration};

/// How much of a key is shown.
const KEY_WIDTH: usize = 60;

/// Runs one of the commands.
pub(crate) fn command(context: &Context, command: &CacheCommand) -> Result<Exit> {
    match command {
        CacheCommand::List(args) => list(context, &open(args)?),
        CacheCommand::Validate(args) => validate(context, &open(args)?),
        CacheCommand::Clear(args) => clear(context, &open(args)?),
    }
}

fn open(args: &CacheArgs) -> Result<Cache> {
    Cache::builder(&args.place).open_existing()
}

fn list(context: &Context, cache: &Cache) -> Result<Exit> {
    let entries = cache.list()?;
    let mut page = Page::new();
    if context.is_json {
        let entries: Vec<Value> = entries.iter().map(entry_object).collect();
        page.json(&with_schema(json!({
            "path": cache.path().display().to_string(),
            "entries": entries,
        })));
    } else {
        let bytes = entries.iter().map(|entry| entry.file_bytes).sum();
        page.line(&format!(
            "{}: {}, {}",
            cache.path().display(),
            number_of_entries(entries.len()),
            show_bytes(bytes)
        ));
        if !entries.is_empty() {
            table(&mut page, &entries);
        }
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

fn entry_object(entry: &Entry) -> Value {
    let path = entry.path.display().to_string();
    let used_at = rfc_3339(entry.used_at_ms);
    match &entry.details {
        Ok(details) => json!({
            "key": details.key,
            "fingerprint": details.fingerprint,
            "computed_at": rfc_3339(details.computed_at_ms),
            "took_us": u64::try_from(details.took.as_micros()).unwrap_or(u64::MAX),
            "used_at": used_at,
            "payload_bytes": details.payload_bytes,
            "file_bytes": entry.file_bytes,
            "path": path,
            "error": Value::Null,
        }),
        Err(error) => json!({
            "used_at": used_at,
            "file_bytes": entry.file_bytes,
            "path": path,
            "error": error_object(error),
        }),
    }
}

fn table(page: &mut Page, entries: &[Entry]) {
    let mut table = Table::new([
        ("KEY", Side::Left),
        ("FINGERPRINT", Side::Left),
        ("USED", Side::Left),
        ("TOOK", Side::Right),
        ("SIZE", Side::Right),
        ("STATE", Side::Left),
    ]);
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    for entry in entries {
        let used = Cell::new(show_ago(entry.used_at_ms));
        let size = Cell::new(show_bytes(entry.file_bytes));
        table.row(match &entry.details {
            Ok(details) => [
                Cell::new(shorten(&details.key, KEY_WIDTH)),
                Cell::new(shorten(&details.fingerprint.to_string(), KEY_WIDTH)),
                used,
                Cell::new(show_duration(details.took.max(Duration::from_millis(1)))),
                size,
                Cell::new("ok"),
            ],
            Err(_) => [
                Cell::new("?"),
                Cell::default(),
                used,
                Cell::default(),
                size,
                Cell::new("damaged").styled(red),
            ],
        });
    }
    table.print(page, "", |page, number| match &entries[number].details {
        Ok(_) => true,
        Err(error) => page.quote("  ", &error.chain()),
    });
}

fn validate(context: &Context, cache: &Cache) -> Result<Exit> {
    let checked = cache.validate()?;
    let problems: Vec<String> = problems(&checked).collect();
    let mut page = Page::new();
    if context.is_json {
        let entries: Vec<Value> = checked.iter().map(checked_object).collect();
        page.json(&with_schema(json!({
            "path": cache.path().display().to_string(),
            "whole": problems.is_empty(),
            "entries": entries,
        })));
    } else if problems.is_empty() {
        let bytes = checked
            .iter()
            .filter_map(|found| found.outcome.as_ref().ok());
        page.line(&format!(
            "`{}` is whole: {}, {} read",
            cache.path().display(),
            number_of_entries(checked.len()),
            show_bytes(bytes.sum())
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
    let message = format!(
        "`{}` is damaged: {} of {}",
        cache.path().display(),
        problems.len(),
        number_of_entries(checked.len())
    );
    Err(Error::new(ErrorKind::Corrupt, message).with_hint(WAY_OUT))
}

/// What to do about a damaged entry.
pub(crate) const WAY_OUT: &str = "nothing is lost: a damaged entry is computed anew when it is asked for; but look after the disk";

/// What is wrong, a line each.
pub(crate) fn problems(checked: &[Validated]) -> impl Iterator<Item = String> {
    checked.iter().filter_map(|found| {
        let error = found.outcome.as_ref().err()?;
        let what = match &found.key {
            Some(key) => format!("the entry of `{}`", key.escape_debug()),
            None => format!("`{}`", found.path.display()),
        };
        Some(format!("{what} is damaged: {}", error.chain()))
    })
}

fn checked_object(found: &Validated) -> Value {
    let (bytes, error) = match &found.outcome {
        Ok(bytes) => (json!(bytes), Value::Null),
        Err(error) => (Value::Null, error_object(error)),
    };
    json!({
        "key": found.key,
        "path": found.path.display().to_string(),
        "payload_bytes": bytes,
        "error": error,
    })
}

fn clear(context: &Context, cache: &Cache) -> Result<Exit> {
    let cleared = cache.clear()?;
    if context.is_json {
        let mut page = Page::new();
        page.json(&with_schema(json!({
            "path": cache.path().display().to_string(),
            "removed": {"entries": cleared.entries, "file_bytes": cleared.file_bytes},
        })));
        page.finish()?;
    } else {
        let entries = usize::try_from(cleared.entries).unwrap_or(usize::MAX);
        context.say(&format!(
            "removed {}, {}",
            number_of_entries(entries),
            show_bytes(cleared.file_bytes)
        ));
    }
    Ok(Exit::Code(exit::DONE))
}

pub(crate) fn number_of_entries(count: usize) -> String {
    match count {
        1 => "1 entry".to_owned(),
        _ => format!("{} entries", show_count(count as u64)),
    }
}
