//! `safepoint list`: the jobs of a state directory.

use safepoint::clock::rfc_3339;
use safepoint::job::{self, Listed, Status, Tally};
use safepoint::{Error, Result};
use serde_json::{Value, json};

use crate::args::ListArgs;
use crate::commands::status::fraction;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::{Page, with_schema};
use crate::render::safe;
use crate::time::{show_ago, show_count, show_number_of};

/// Runs `safepoint list`.
pub(crate) fn command(context: &Context, _: &ListArgs) -> Result<Exit> {
    let jobs = job::list(&context.state_dir)?;
    let states: Vec<(&Listed, Result<Status>)> = jobs
        .iter()
        .map(|job| (job, Status::read(&job.path)))
        .collect();
    let mut page = Page::new();
    if context.is_json {
        let jobs: Vec<Value> = states
            .iter()
            .map(|(job, state)| object(job, state))
            .collect();
        page.json(&with_schema(json!({ "jobs": jobs })));
    } else if states.is_empty() {
        context.say(&format!("no jobs in `{}`", context.state_dir.display()));
    } else {
        table(&mut page, &states);
    }
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}

fn object(job: &Listed, state: &Result<Status>) -> Value {
    let name = &job.path.name;
    let changed = rfc_3339(job.changed_at_ms);
    match state {
        Ok(state) => {
            let tally = Tally::of(&state.progress);
            let mut object = json!({
                "job": name,
                "status": state.status,
                "done": state.progress.counts.done,
                "total": tally.total,
                "dead": state.progress.counts.dead,
                "waiting": state.progress.counts.waiting,
                "runs": state.runs.len(),
                "changed_at": changed,
                "error": Value::Null,
            });
            if let (Value::Object(fields), Some(steps)) = (&mut object, state.steps_object()) {
                fields.insert("steps".into(), steps);
            }
            object
        }
        Err(error) => {
            json!({"job": name, "status": Value::Null, "changed_at": changed, "error": error_object(error)})
        }
    }
}

pub(crate) fn error_object(error: &Error) -> Value {
    json!({"kind": error.kind().name(), "message": error.chain()})
}

const HEADER: [&str; 6] = ["NAME", "STATUS", "DONE", "DEAD", "RUNS", "CHANGED"];

fn table(page: &mut Page, states: &[(&Listed, Result<Status>)]) {
    let mut rows = vec![HEADER.map(str::to_owned)];
    for (job, state) in states {
        let changed = show_ago(job.changed_at_ms);
        let name = job.path.name.clone();
        rows.push(match state {
            Ok(state) => [
                name,
                safe(&state.status, false),
                if state.child.is_some() {
                    "-".to_owned()
                } else if state.is_of_steps() {
                    show_number_of(state.steps.complete, "step")
                } else {
                    fraction(Tally::of(&state.progress))
                },
                show_count(state.progress.counts.dead),
                state.runs.len().to_string(),
                changed,
            ],
            Err(_) => [
                name,
                "unreadable".into(),
                "?".into(),
                "?".into(),
                "?".into(),
                changed,
            ],
        });
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for (row, error) in rows
        .iter()
        .zip(std::iter::once(None).chain(states.iter().map(|(_, state)| state.as_ref().err())))
    {
        let [name, word, done, dead, runs, changed] = row;
        let [w_name, w_status, w_done, w_dead, w_runs, _] = widths;
        page.line(&format!(
            "{name:w_name$}  {word:w_status$}  {done:>w_done$}  {dead:>w_dead$}  {runs:>w_runs$}  {changed}"
        ));
        if let Some(error) = error {
            page.quote("  error: ", &error.chain());
        }
    }
}
