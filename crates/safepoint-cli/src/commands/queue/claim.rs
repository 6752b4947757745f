//! `safepoint queue claim`, and what becomes of a lease.

use safepoint::Result;
use safepoint::clock::rfc_3339;
use safepoint::queue::{DEFAULT_LEASE, Payload};
use serde_json::{Map, Value, json};

use super::{AcknowledgeArgs, ClaimArgs, ExtendArgs, FailArgs, ReleaseArgs};
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::shorten;
use crate::time::show_duration;

/// How much of an item's name is shown.
const NAME_WIDTH: usize = 60;

pub(super) fn claim(context: &Context, args: &ClaimArgs) -> Result<Exit> {
    let queue = args
        .queue
        .existing(context)?
        .lease(args.lease.unwrap_or(DEFAULT_LEASE))
        .retry(args.policy.policy())
        .open()?;
    let Some(lease) = queue.claim(args.wait)? else {
        queue.close()?;
        context.say("nothing to claim");
        return Ok(Exit::Code(exit::STOPPED));
    };
    let mut object = Map::new();
    object.insert("token".into(), lease.token().to_string().into());
    object.insert("key".into(), lease.key().into());
    object.insert("number".into(), lease.number().into());
    payload(&mut object, "payload", Some(lease.payload()));
    object.insert("attempt".into(), lease.attempt().into());
    object.insert("idempotency_key".into(), lease.idempotency_key().into());
    object.insert("expires_at".into(), rfc_3339(lease.expires_at_ms()).into());
    lease.detach();
    // Before it is printed: a token that nobody was told is only a lease that expires.
    queue.close()?;
    let mut page = Page::new();
    page.json(&with_schema(Value::Object(object)));
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

/// A payload as the JSON that it is, else as a text; bytes in hexadecimal, under a name that says so.
pub(super) fn payload(object: &mut Map<String, Value>, name: &str, payload: Option<&Payload>) {
    let (name, value) = match payload {
        None => (name.to_owned(), Value::Null),
        Some(Payload::Text(text)) => {
            let value = serde_json::from_str(text);
            (
                name.to_owned(),
                value.unwrap_or_else(|_| Value::String(text.to_string())),
            )
        }
        Some(Payload::Bytes(bytes)) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (format!("{name}_hex"), digits.into())
        }
    };
    object.insert(name, value);
}

pub(super) fn acknowledge(context: &Context, args: &AcknowledgeArgs) -> Result<Exit> {
    let token = args.lease.token()?;
    let queue = args.lease.queue.open(context)?;
    let lease = match queue.lease(&token) {
        Ok(lease) => lease,
        // Asked again, for example after a kill: what was acknowledged by this lease is acknowledged.
        Err(_) if queue.is_acknowledged(&token)? => {
            return said(context, "it is done already", &token.to_string(), "done");
        }
        Err(error) => return Err(error),
    };
    let name = shorten(&lease.name(), NAME_WIDTH);
    lease.acknowledge(args.result.as_deref().unwrap_or_default())?;
    queue.close()?;
    said(context, &format!("item {name} is done"), &name, "done")
}

pub(super) fn release(context: &Context, args: &ReleaseArgs) -> Result<Exit> {
    let token = args.lease.token()?;
    let queue = args.lease.queue.open(context)?;
    let lease = queue.lease(&token)?;
    let name = shorten(&lease.name(), NAME_WIDTH);
    lease.release(args.delay)?;
    queue.close()?;
    let state = if args.delay.is_zero() {
        "pending"
    } else {
        "waiting"
    };
    said(context, &format!("item {name} is {state}"), &name, state)
}

pub(super) fn fail(context: &Context, args: &FailArgs) -> Result<Exit> {
    let token = args.lease.token()?;
    let builder = args.lease.queue.existing(context)?;
    let queue = builder.retry(args.policy.policy()).open()?;
    let lease = queue.lease(&token)?;
    let name = shorten(&lease.name(), NAME_WIDTH);
    let state = lease.fail(args.error.as_str())?.name();
    queue.close()?;
    said(context, &format!("item {name} is {state}"), &name, state)
}

pub(super) fn extend(context: &Context, args: &ExtendArgs) -> Result<Exit> {
    let token = args.lease.token()?;
    let queue = args.lease.queue.open(context)?;
    let mut lease = queue.lease(&token)?;
    let name = shorten(&lease.name(), NAME_WIDTH);
    let extended = lease.extend(args.time);
    // Whatever came of it, it is not ours.
    lease.detach();
    extended?;
    queue.close()?;
    let line = format!(
        "the lease on item {name} lasts for {}",
        show_duration(args.time)
    );
    said(context, &line, &name, "leased")
}

fn said(context: &Context, line: &str, name: &str, state: &str) -> Result<Exit> {
    if context.is_json {
        let mut page = Page::new();
        page.json(&with_schema(json!({ "item": name, "state": state })));
        page.finish()?;
    } else {
        context.say(line);
    }
    Ok(Exit::Code(exit::DONE))
}
