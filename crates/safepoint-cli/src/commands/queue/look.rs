//! `safepoint queue stats`, `list`, `retry`, `forget` and `validate`.

use anstyle::{AnsiColor, Style};
use safepoint::clock::rfc_3339;
use safepoint::queue::{MAX_CLAIM, Payload, Problem, QueuedItem, QueuedState};
use safepoint::{Error, ErrorKind, Queue, Result};
use serde_json::{Map, Value, json};

use super::{ForgetArgs, ListArgs, QueueArgs, RetryArgs, claim};
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::{safe, shorten, show_bytes};
use crate::table::{Cell, Side, Table};
use crate::time::{show_ago, show_count, show_number_of};

/// How much of a key and of a payload is shown.
const WIDTH: usize = 40;

pub(super) fn stats(context: &Context, args: &QueueArgs) -> Result<Exit> {
    let queue = args.open(context)?;
    let counts = queue.stats()?;
    let path = queue.directory().display().to_string();
    queue.close()?;
    let mut page = Page::new();
    if context.is_json {
        let mut object = Map::new();
        object.insert("path".into(), path.into());
        for state in QueuedState::ALL {
            object.insert(state.name().into(), counts.of(state).into());
        }
        page.json(&with_schema(Value::Object(object)));
    } else {
        for state in QueuedState::ALL {
            page.line(&format!(
                "{:<7}  {:>9}",
                state.name(),
                show_count(counts.of(state))
            ));
        }
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

pub(super) fn list(context: &Context, args: &ListArgs) -> Result<Exit> {
    let queue = args.queue.open(context)?;
    let state = args.state.as_deref().and_then(QueuedState::from_name);
    let mut items: Vec<QueuedItem> = Vec::new();
    let mut page = Page::new();
    let mut printed = 0;
    if context.is_json {
        let head =
            with_schema(json!({ "path": queue.directory().display().to_string() })).to_string();
        page.piece(head.strip_suffix('}').unwrap_or(&head));
        page.piece(",\"items\":[");
    }
    let mut after = 0;
    // By parts: a list may be long.
    while printed < args.limit {
        let left = usize::try_from(args.limit - printed).unwrap_or(usize::MAX);
        let part = queue.list(state, after, left.min(MAX_CLAIM))?;
        let Some(last) = part.last() else {
            break;
        };
        after = last.number;
        for item in part {
            if context.is_json {
                let between = if printed == 0 { "" } else { "," };
                page.piece(&format!("{between}{}", object(&item)));
            } else {
                items.push(item);
            }
            printed += 1;
        }
    }
    if context.is_json {
        page.piece("]}\n");
    } else if items.is_empty() {
        context.say("no items");
    } else {
        table(&mut page, &items);
    }
    page.finish()?;
    queue.close()?;
    Ok(Exit::Code(exit::DONE))
}

fn object(item: &QueuedItem) -> Value {
    let mut object = Map::new();
    object.insert("number".into(), item.number.into());
    object.insert("key".into(), item.key.as_deref().into());
    object.insert("state".into(), item.state.name().into());
    object.insert("attempts".into(), item.attempts.into());
    object.insert("pushed_at".into(), rfc_3339(item.pushed_at_ms).into());
    object.insert("due_at".into(), item.due_at_ms.map(rfc_3339).into());
    object.insert("settled_at".into(), item.settled_at_ms.map(rfc_3339).into());
    object.insert("pid".into(), item.pid.into());
    claim::payload(&mut object, "payload", Some(&item.payload));
    claim::payload(&mut object, "result", item.result.as_ref());
    object.insert("error".into(), item.error.as_deref().into());
    Value::Object(object)
}

fn table(page: &mut Page, items: &[QueuedItem]) {
    let mut table = Table::new([
        ("ITEM", Side::Left),
        ("STATE", Side::Left),
        ("ATTEMPTS", Side::Right),
        ("PUSHED", Side::Left),
        ("PAYLOAD", Side::Left),
    ]);
    let red = Style::new().fg_color(Some(AnsiColor::Red.into()));
    for item in items {
        let state = Cell::new(item.state.name());
        table.row([
            Cell::new(shorten(&item.name(), WIDTH)),
            if item.state == QueuedState::Dead {
                state.styled(red)
            } else {
                state
            },
            Cell::new(item.attempts.to_string()),
            Cell::new(show_ago(item.pushed_at_ms)),
            Cell::new(match &item.payload {
                Payload::Text(text) => shorten(text, WIDTH),
                Payload::Bytes(bytes) => format!("({})", show_bytes(bytes.len() as u64)),
            }),
        ]);
    }
    table.print(page, "", |page, number| match &items[number].error {
        Some(error) => page.quote("  error: ", error),
        None => true,
    });
}

pub(super) fn retry(context: &Context, args: &RetryArgs) -> Result<Exit> {
    let queue = args.queue.open(context)?;
    let names: Vec<&str> = args.items.iter().map(String::as_str).collect();
    let retried = queue.retry((!names.is_empty()).then_some(&names))?;
    queue.close()?;
    number(context, "retried", retried, "pending again")
}

pub(super) fn forget(context: &Context, args: &ForgetArgs) -> Result<Exit> {
    let queue = args.queue.open(context)?;
    let forgotten = queue.forget_done(args.done_before)?;
    queue.close()?;
    number(context, "forgotten", forgotten, "forgotten")
}

pub(super) fn validate(context: &Context, args: &QueueArgs) -> Result<Exit> {
    let directory = args.directory(context)?;
    let problems = Queue::validate(&directory)?;
    let problems: Vec<&str> = problems.iter().map(|Problem(text)| text.as_str()).collect();
    let path = directory.display().to_string();
    let mut page = Page::new();
    if context.is_json {
        page.json(&with_schema(json!({
            "path": path,
            "whole": problems.is_empty(),
            "problems": problems,
        })));
    } else if problems.is_empty() {
        page.line(&format!("`{}` is whole", safe(&path, false)));
    } else {
        for problem in &problems {
            page.quote("problem: ", problem);
        }
    }
    page.finish()?;
    if problems.is_empty() {
        return Ok(Exit::Code(exit::DONE));
    }
    let number = show_number_of(problems.len() as u64, "problem");
    let message = format!("`{}` is damaged: {number} found", safe(&path, false));
    Err(Error::new(ErrorKind::Corrupt, message).with_hint(
        "put a backup back, or rescue what can be read with `sqlite3 queue.db .recover`",
    ))
}

fn number(context: &Context, name: &str, number: u64, what: &str) -> Result<Exit> {
    if context.is_json {
        let mut page = Page::new();
        page.json(&with_schema(json!({ name: number })));
        page.finish()?;
    } else {
        context.say(&format!("{} {what}", show_number_of(number, "item")));
    }
    Ok(Exit::Code(exit::DONE))
}
