//! `safepoint retry`: dead items become pending again.

use safepoint::job;
use safepoint::queue::State;
use safepoint::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::args::RetryArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::{safe, shorten};
use crate::time::show_count;

/// Runs `safepoint retry`.
pub(crate) fn command(context: &Context, args: &RetryArgs) -> Result<Exit> {
    let path = context.job(args.job.job.as_deref())?;
    let mut chosen = Vec::new();
    let mut not_dead = Vec::new();
    if !args.items.is_empty() {
        let view = job::view(&path)?;
        for name in &args.items {
            match view.item(name)? {
                Some(row) if row.state == State::Dead => chosen.push(row.index),
                Some(row) => not_dead.push((name, row.state)),
                None => {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!(
                            "job `{}` has no dead item `{}`",
                            path.name,
                            safe(name, false)
                        ),
                    )
                    .with_hint(format!(
                        "`safepoint show {}` lists the dead items; nothing was changed",
                        path.name
                    )));
                }
            }
        }
    }
    let only = (!args.items.is_empty()).then_some(chosen.as_slice());
    let retried = job::retry(&path, only)?;

    if context.is_json {
        let not_dead: Vec<Value> = not_dead
            .iter()
            .map(|(name, state)| json!({"item": name, "state": state.name()}))
            .collect();
        let mut page = Page::new();
        page.json(&with_schema(
            json!({"job": path.name, "retried": retried, "not_dead": not_dead}),
        ));
        page.finish()?;
        return Ok(Exit::Code(exit::DONE));
    }
    for (name, state) in &not_dead {
        context.say(&format!(
            "item {} is not dead but {}",
            shorten(name, 60),
            state.name()
        ));
    }
    let name = &path.name;
    context.say(&match retried {
        0 => format!("job `{name}`: nothing to attempt again"),
        1 => format!("job `{name}`: 1 dead item is pending again"),
        _ => format!(
            "job `{name}`: {} dead items are pending again",
            show_count(retried)
        ),
    });
    if retried > 0 {
        context.say("  to attempt them: the same `safepoint run` command again");
    }
    Ok(Exit::Code(exit::DONE))
}
