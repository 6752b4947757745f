//! `safepoint checkpoint prune`: removes old generations, as a save with this retention would.

use safepoint::Result;
use safepoint::checkpoint::{CheckpointReader, CheckpointStore, Generation, Retention};
use serde_json::{Value, json};

use super::place;
use crate::args::PruneArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::show_bytes;
use crate::time::show_number_of;

/// Runs `safepoint checkpoint prune`.
pub(super) fn command(context: &Context, args: &PruneArgs) -> Result<Exit> {
    let reader = place::open(context, &args.which.place)?;
    let names = place::names(&reader, args.which.name.as_deref())?;
    let retention = Retention::newest(args.keep).keep_every(args.keep_every.unwrap_or(0));
    // The owner of the directory must not be pruned under: nothing is looked at before it is ours.
    let store = if args.dry_run || names.is_empty() {
        None
    } else {
        let builder = CheckpointStore::builder(reader.path());
        Some(builder.retention(retention.clone()).open()?)
    };
    let mut states = Vec::new();
    for name in names {
        let sizes = Sizes::of(&reader, &name)?;
        let removed = match &store {
            Some(store) => store.prune(&name)?,
            None => reader.to_prune(&name, &retention)?,
        };
        let bytes = sizes.sum(&removed);
        states.push((name, removed, bytes));
    }
    let mut page = Page::new();
    if context.is_json {
        let states: Vec<Value> = states
            .iter()
            .map(|(name, removed, bytes)| json!({"name": name, "removed": removed, "file_bytes": bytes}))
            .collect();
        page.json(&with_schema(json!({
            "path": reader.path().display().to_string(),
            "dry_run": args.dry_run,
            "states": states,
        })));
    } else if states.is_empty() {
        context.say(&format!("no checkpoints in `{}`", reader.path().display()));
    } else {
        let verb = if args.dry_run {
            "would remove"
        } else {
            "removed"
        };
        for (name, removed, bytes) in &states {
            page.line(&match removed.as_slice() {
                [] => format!("{name}: nothing to remove"),
                [first, .., last] => format!(
                    "{name}: {verb} {} ({first} to {last}), {}",
                    show_number_of(removed.len() as u64, "generation"),
                    show_bytes(*bytes)
                ),
                [only] => format!("{name}: {verb} generation {only}, {}", show_bytes(*bytes)),
            });
        }
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

/// How large each generation is, before any of them goes.
struct Sizes(Vec<(Generation, u64)>);

impl Sizes {
    fn of(reader: &CheckpointReader, name: &str) -> Result<Self> {
        let listed = reader.list(name)?.into_iter();
        let sizes = listed.map(|listed| (listed.generation, listed.file_bytes));
        Ok(Self(sizes.collect()))
    }

    fn sum(&self, removed: &[Generation]) -> u64 {
        let of_removed = self
            .0
            .iter()
            .filter(|(generation, _)| removed.contains(generation));
        of_removed.map(|(_, bytes)| bytes).sum()
    }
}
