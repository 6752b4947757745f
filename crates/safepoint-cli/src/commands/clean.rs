//! `safepoint clean`: removes a job and all its state.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use safepoint::job::{self, JobPath, Status};
use safepoint::{Error, Result};
use serde_json::json;

use crate::args::CleanArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::show_bytes;
use crate::time::show_number_of;

/// Runs `safepoint clean`.
pub(crate) fn command(context: &Context, args: &CleanArgs) -> Result<Exit> {
    let named = args.job.job.as_deref();
    if args.yes && named.is_none() {
        return Err(Error::invalid("`clean --yes` needs the name of the job")
            .with_hint("`safepoint list` shows the jobs there are"));
    }
    let path = context.job(named)?;
    let holds = Holds::of(&path);
    if !args.yes && !confirmed(&path, &holds)? {
        context.say("nothing was removed");
        return Ok(Exit::Code(exit::DONE));
    }
    job::clean(&path)?;
    if context.is_json {
        let mut page = Page::new();
        page.json(&with_schema(json!({
            "job": path.name,
            "removed": {"results": holds.results, "published": holds.published, "bytes": holds.bytes},
        })));
        page.finish()?;
    } else {
        context.say(&format!("removed job `{}`: {}", path.name, holds.text()));
    }
    Ok(Exit::Code(exit::DONE))
}

fn confirmed(path: &JobPath, holds: &Holds) -> Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::invalid(format!(
            "not removing job `{}` unasked: {}",
            path.name,
            holds.text()
        ))
        .with_hint(format!("say so with `safepoint clean {} --yes`", path.name)));
    }
    let mut asked = anstream::stderr().lock();
    // An answer to a question that could not be asked is no.
    let _ = write!(
        asked,
        "remove job `{}` with {}? [y/N] ",
        path.name,
        holds.text()
    );
    let _ = asked.flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Error::invalid("no answer could be read").with_source(error))?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

/// What would be lost.
struct Holds {
    /// `None` if the state cannot be read.
    results: Option<u64>,
    published: u64,
    bytes: u64,
}

impl Holds {
    fn of(path: &JobPath) -> Self {
        Self {
            results: Status::read(path)
                .ok()
                .map(|state| state.progress.counts.done),
            published: std::fs::read_dir(path.out()).map_or(0, |entries| entries.count() as u64),
            bytes: bytes_below(&path.dir()),
        }
    }

    fn text(&self) -> String {
        let mut text = match self.results {
            None => "state that cannot be read".to_owned(),
            Some(results) => show_number_of(results, "result"),
        };
        if self.published > 0 {
            text.push_str(&format!(
                ", the published files of {}",
                show_number_of(self.published, "item")
            ));
        }
        text.push_str(&format!(", {}", show_bytes(self.bytes)));
        text
    }
}

/// The size of all files below, as far as they can be seen. Links are not followed.
fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok()?;
            Some(if metadata.is_dir() {
                bytes_below(&entry.path())
            } else {
                metadata.len()
            })
        })
        .sum()
}
