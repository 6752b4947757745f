//! What must be true of a directory of checkpoints after a crash, by what had been acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safepoint::checkpoint::{Checkpoint, CheckpointStore, Generation};

use super::plan::{How, Plan};
use super::said::Said;

/// What was acknowledged, by the name of the state: the steps by their generations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged(BTreeMap<String, BTreeMap<u64, u64>>);

impl Acknowledged {
    /// What these lines acknowledge. A state that was found had been whole, so it counts too.
    pub fn of<'a>(said: impl IntoIterator<Item = &'a Said>) -> Self {
        let mut all = Self::default();
        all.hear(said);
        all
    }

    /// Adds what a later run said.
    pub fn hear<'a>(&mut self, said: impl IntoIterator<Item = &'a Said>) {
        for line in said {
            if let Said::Saved {
                name,
                generation,
                step,
            } = line
            {
                let state = self.0.entry(name.clone()).or_default();
                state.insert(*generation, *step);
            }
        }
    }

    /// How many saves.
    pub fn count(&self) -> u64 {
        self.0.values().map(|state| state.len() as u64).sum()
    }

    fn of_state(&self, name: &str) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        let state = self.0.get(name).into_iter().flatten();
        state.map(|(generation, step)| (*generation, *step))
    }
}

/// What was found, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The newest step of each state that was found; none where there is nothing.
    pub newest: BTreeMap<String, u64>,
    /// Acknowledged states that the newest one found is older than.
    pub lost: u64,
    /// States of which nothing could be loaded though something is there, and generations that could not be loaded.
    pub unreadable: u64,
    /// Files that are no generation.
    pub left_over: u64,
    /// All of it in words.
    pub problems: Vec<String>,
}

impl Verdict {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn unreadable(&mut self, problem: String) {
        self.unreadable += 1;
        self.problems.push(problem);
    }
}

/// Opens the store in `directory` as the next run would, and looks at everything in it.
///
/// After a crash the newest acknowledged state or a newer one is found, whole; of earlier ones those that the retention keeps. No generation
/// is damaged, not even one that was never acknowledged, as a file has its name only when it is whole. Nothing else is left.
pub fn verify(directory: &Path, plan: &Plan, acknowledged: &Acknowledged) -> Verdict {
    let mut verdict = Verdict::default();
    match CheckpointStore::open(directory) {
        Ok(store) => {
            for name in &plan.names {
                look(&store, plan, name, acknowledged, &mut verdict);
                left_over(&directory.join(name), &mut verdict);
            }
        }
        Err(error) => verdict.unreadable(format!("it cannot be opened: {}", error.chain())),
    }
    verdict
}

fn look(
    store: &CheckpointStore,
    plan: &Plan,
    name: &str,
    acknowledged: &Acknowledged,
    verdict: &mut Verdict,
) {
    let last = acknowledged.of_state(name).next_back();
    let newest = match store.latest(name) {
        Ok(newest) => newest,
        Err(error) => {
            verdict.unreadable(format!("`{name}`: {}", error.chain()));
            verdict.lost += u64::from(last.is_some());
            return;
        }
    };
    for skipped in newest.iter().flat_map(Checkpoint::skipped) {
        // What a crash tore at the end of a journal was never acknowledged, and has to be told.
        let torn =
            plan.how == How::Small && last.is_some_and(|(last, _)| skipped.generation.0 > last);
        if !torn {
            verdict.unreadable(skipped.to_string());
        }
    }
    let newest = newest.as_ref().map(|newest| {
        let step = newest.metadata().details.step.unwrap_or(0);
        verdict.newest.insert(name.to_owned(), step);
        (newest.generation().0, step)
    });
    if newest < last {
        verdict.lost += 1;
        let problem = format!("`{name}`: {last:?} was acknowledged, and {newest:?} is the newest");
        verdict.problems.push(problem);
    }
    let listed = store.list(name).unwrap_or_default();
    for listed in &listed {
        match store.load(name, listed.generation) {
            Ok(checkpoint) => verdict.problems.extend(plan.complaint(name, &checkpoint)),
            Err(error) => verdict.unreadable(error.chain()),
        }
    }
    if plan.how == How::Small {
        // The states of a journal go with it.
        return;
    }
    for (generation, _) in acknowledged.of_state(name) {
        let is_there = listed
            .iter()
            .any(|listed| listed.generation == Generation(generation));
        let newer = listed
            .iter()
            .filter(|listed| listed.generation > Generation(generation));
        if !is_there && newer.count() < plan.keep && newest >= last {
            let problem = format!("`{name}`: generation {generation} is gone before its time");
            verdict.problems.push(problem);
        }
    }
}

/// Names of files in the folder of a state that a run must not leave.
fn left_over(folder: &Path, verdict: &mut Verdict) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ![".ckpt", ".journal"]
            .iter()
            .any(|ending| name.ends_with(ending))
            || name.starts_with('.')
        {
            verdict.left_over += 1;
            let problem = format!("{} is left over", entry.path().display());
            verdict.problems.push(problem);
        }
    }
}
