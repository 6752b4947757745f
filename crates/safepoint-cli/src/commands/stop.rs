//! `safepoint stop`: asks the process that runs a job to stop.

use std::time::Duration;

use safepoint::Result;
use safepoint::job;
use safepoint::shutdown::Mode;
use serde_json::json;

use crate::args::StopArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::safe;

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(50);

/// Runs `safepoint stop`.
pub(crate) fn command(context: &Context, args: &StopArgs) -> Result<Exit> {
    let path = context.job(args.job.job.as_deref())?;
    let mode = if args.now {
        Mode::Immediate
    } else {
        Mode::Graceful
    };
    let owner = job::request_stop(&path, mode)?;
    if !context.is_json {
        let then = match mode {
            Mode::Graceful => "what is in progress may finish",
            Mode::Immediate => "what is in progress is given up, to run again next time",
        };
        context.say(&format!(
            "asked process {} on `{}` to stop job `{}`: {then}",
            owner.pid,
            safe(&owner.host, false),
            path.name
        ));
    }
    if args.wait {
        // Another process may take the job as soon as this one leaves it.
        while job::current_owner(&path)?.is_some_and(|now| {
            // Process 0: it is about to say anew who it is.
            now.pid == 0 || (now.pid, &now.since) == (owner.pid, &owner.since)
        }) {
            std::thread::sleep(LOOK);
        }
        context.say(&format!("job `{}` has stopped", path.name));
    } else if !context.is_json && mode == Mode::Graceful {
        context.say(&format!(
            "  to wait for it: `safepoint stop {0} --wait`; to end it now: `safepoint stop {0} --now`",
            path.name
        ));
    }
    if context.is_json {
        let mut page = Page::new();
        page.json(&with_schema(json!({
            "job": path.name,
            "mode": mode.name(),
            "owner": {"pid": owner.pid, "host": owner.host, "since": owner.since},
            "stopped": args.wait,
        })));
        page.finish()?;
    }
    Ok(Exit::Code(exit::DONE))
}
