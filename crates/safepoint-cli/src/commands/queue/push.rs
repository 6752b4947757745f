//! `safepoint queue push`.

use std::io::BufRead;

use safepoint::queue::{MAX_PAYLOAD, NewItem, Payload, Pushed};
use safepoint::{Error, ErrorKind, Queue, Result};
use serde_json::json;

use super::PushArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::time::{show_count, show_number_of};

/// So many items of standard input share a commit.
const AT_ONCE: usize = 1000;

/// And no more than so many bytes.
const BYTES_AT_ONCE: usize = 8 << 20;

#[derive(Default)]
struct Told {
    new: u64,
    known: u64,
}

pub(super) fn push(context: &Context, args: &PushArgs) -> Result<Exit> {
    if args.key.is_some() && (args.payloads.len() > 1 || args.payloads == ["-"]) {
        return Err(Error::invalid("one key cannot be that of several items")
            .with_hint("push them one by one, or let each be its own key with `--unique`"));
    }
    let queue = Queue::open(args.queue.directory(context)?)?;
    let mut told = Told::default();
    let mut items = Vec::new();
    for payload in &args.payloads {
        if payload == "-" {
            push_lines(args, &queue, &mut items, &mut told)?;
        } else {
            items.push(item(args, payload.as_bytes().to_vec())?);
        }
    }
    told.push(&queue, &mut items)?;
    queue.close()?;
    let Told { new, known } = told;
    if context.is_json {
        let mut page = Page::new();
        page.json(&with_schema(json!({ "new": new, "known": known })));
        page.finish()?;
    } else {
        let known = match known {
            0 => String::new(),
            _ => format!(", {} known already", show_count(known)),
        };
        context.say(&format!("{} pushed{known}", show_number_of(new, "item")));
    }
    Ok(Exit::Code(exit::DONE))
}

/// Pushes as it reads: what was read by then is in the queue if the command is stopped, and `--unique` goes on from there.
fn push_lines(
    args: &PushArgs,
    queue: &Queue,
    items: &mut Vec<NewItem>,
    told: &mut Told,
) -> Result<()> {
    let mut input = std::io::stdin().lock();
    let mut bytes = 0;
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_PAYLOAD).unwrap_or(u64::MAX) + 2;
        let read = std::io::Read::take(&mut input, limit).read_until(b'\n', &mut line);
        let read = read.map_err(|error| {
            Error::new(ErrorKind::Io, "cannot read standard input").with_source(error)
        })?;
        if read == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.is_empty() {
            continue;
        }
        bytes += line.len();
        items.push(item(args, line)?);
        if items.len() >= AT_ONCE || bytes >= BYTES_AT_ONCE {
            told.push(queue, items)?;
            bytes = 0;
        }
    }
}

/// A text where it is one.
fn item(args: &PushArgs, bytes: Vec<u8>) -> Result<NewItem> {
    let payload: Payload = match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => error.into_bytes().into(),
    };
    let key =
        match (&args.key, args.unique) {
            (Some(key), _) => Some(key.clone()),
            (None, true) => Some(payload.as_text().map(str::to_owned).ok_or_else(|| {
                Error::invalid("a payload that is no text cannot be its own key")
            })?),
            (None, false) => None,
        };
    let item = NewItem::new(payload).delay(args.delay);
    Ok(match key {
        Some(key) => item.key(key),
        None => item,
    })
}

impl Told {
    fn push(&mut self, queue: &Queue, items: &mut Vec<NewItem>) -> Result<()> {
        for pushed in queue.push_many(items.drain(..))? {
            match pushed {
                Pushed::New => self.new += 1,
                Pushed::Known(_) => self.known += 1,
            }
        }
        Ok(())
    }
}
