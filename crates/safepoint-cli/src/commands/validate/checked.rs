//! What was found.

use std::path::Path;

use safepoint::queue::View;
use safepoint::{ErrorKind, Result};
use serde_json::{Map, Value};

use super::target::Target;
use crate::commands::events::each_line;
use crate::commands::{cache, checkpoint};
use crate::time::show_number_of;

/// How many bad lines of `events.jsonl` are named.
const NAMED: usize = 20;

/// What was found.
#[derive(Default)]
pub(super) struct Checked {
    in_database: Vec<String>,
    in_events: Vec<String>,
    in_checkpoints: Vec<String>,
    in_caches: Vec<String>,
    pub(super) items: Option<u64>,
    pub(super) steps: u64,
    pub(super) events: u64,
    pub(super) generations: u64,
    pub(super) entries: u64,
}

impl Checked {
    /// Damage is a finding; what keeps one from looking is an error.
    pub(super) fn check(target: &Target) -> Result<Self> {
        let mut checked = Self::default();
        if let Some(database) = &target.database {
            match checked.database(database) {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    checked.in_database.push(error.chain());
                }
                other => other?,
            }
        }
        if let Some(events) = &target.events {
            checked.events(events)?;
        }
        for reader in &target.checkpoints {
            let found = checkpoint::check(reader, None)?;
            checked.generations += found.len() as u64;
            checked.in_checkpoints.extend(checkpoint::problems(&found));
        }
        for cache in &target.caches {
            let found = cache.validate()?;
            checked.entries += found.len() as u64;
            checked.in_caches.extend(cache::problems(&found));
        }
        Ok(checked)
    }

    /// All problems, the worst first.
    pub(super) fn problems(&self) -> impl Iterator<Item = &String> {
        self.in_database
            .iter()
            .chain(&self.in_checkpoints)
            .chain(&self.in_events)
            .chain(&self.in_caches)
    }

    /// How much was found whole.
    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        if let Some(items) = self.items {
            parts.push(match self.steps {
                0 => show_number_of(items, "item"),
                steps => show_number_of(steps, "step"),
            });
            parts.push(show_number_of(self.events, "event"));
        }
        if self.generations > 0 {
            parts.push(show_number_of(self.generations, "generation"));
        }
        if self.entries > 0 || parts.is_empty() {
            let entries = usize::try_from(self.entries).unwrap_or(usize::MAX);
            parts.push(format!("{} in caches", cache::number_of_entries(entries)));
        }
        parts.join(", ")
    }

    /// What to do about the worst.
    pub(super) fn way_out(&self, target: &Target) -> String {
        if !self.in_database.is_empty() {
            target.way_out()
        } else if !self.in_checkpoints.is_empty() {
            checkpoint::WAY_OUT.to_owned()
        } else if !self.in_events.is_empty() {
            "only `events.jsonl` is damaged, which no run depends on: move it away".to_owned()
        } else {
            cache::WAY_OUT.to_owned()
        }
    }

    fn database(&mut self, path: &Path) -> Result<()> {
        if !path.exists() {
            self.in_database
                .push(format!("`{}` is gone", path.display()));
            return Ok(());
        }
        let view = View::open(path)?;
        self.in_database
            .extend(view.validate()?.into_iter().map(|problem| problem.0));
        if self.in_database.is_empty() {
            // Each of these reads all columns of its rows.
            view.job()?;
            view.definition()?;
            view.runs()?;
            self.items = Some(view.progress()?.counts.touched());
            self.steps = view.step_counts()?.steps();
            view.for_each_step(|_| Ok(true))?;
            view.for_each_effect(|_| Ok(true))?;
        }
        Ok(())
    }

    fn events(&mut self, path: &Path) -> Result<()> {
        let mut bad = 0_usize;
        each_line(path, |number, line, is_whole| {
            let event = serde_json::from_slice::<Map<String, Value>>(line);
            if event
                .is_ok_and(|event| event.contains_key("event") && event.contains_key("timestamp"))
            {
                self.events += 1;
            } else if is_whole {
                // A last line without a newline was cut short by a crash, which the format allows.
                bad += 1;
                if bad <= NAMED {
                    self.in_events
                        .push(format!("line {number} of `events.jsonl` is no event"));
                }
            }
            true
        })?;
        if bad > NAMED {
            self.in_events.push(format!(
                "{} more lines of `events.jsonl` are no events",
                bad - NAMED
            ));
        }
        Ok(())
    }
}
