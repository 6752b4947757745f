//! What is recorded and what was asked for, by name: no result is kept in memory.

use std::collections::HashMap;

use super::name::scope_of;
use super::report::NAMED;
use crate::error::{Error, Result};
use crate::queue::StepState;

/// So many new names in a scope of which nothing recorded was asked for are told at once, and not only at the end.
const EARLY: u32 = 16;

/// What the file says of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) state: StepState,
    pub(super) memoised: bool,
    pub(super) run: u32,
}

/// How far a step is in this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    No,
    InProgress,
    Settled,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// What holds now: nothing any more once its body has begun to run.
    recorded: Option<Recorded>,
    asked: Asked,
    /// Earlier runs have left something of it, whether it holds or not.
    ran_before: bool,
    /// It had a result when this run began.
    was_complete: bool,
    /// It was asked for in this run, whatever came of it.
    was_asked: bool,
}

/// The steps directly in a scope.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    complete_before: u32,
    of_these_asked: u32,
    new: u32,
    told: bool,
}

/// A scope in which names have changed since they were recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) scope: String,
    /// The first of those that no earlier run had, and how many they are.
    pub(super) new: (Vec<String>, u64),
    /// The first of those recorded ones that were not asked for, and how many they are.
    pub(super) left: (Vec<String>, u64),
}

/// All steps by name.
#[derive(Debug, Default)]
pub(super) struct Index {
    steps: HashMap<Box<str>, Known>,
    scopes: HashMap<Box<str>, Tally>,
}

impl Index {
    /// Takes over what the file says.
    pub(super) fn load(&mut self, name: Box<str>, recorded: Recorded) {
        let was_complete = recorded.state == StepState::Complete;
        if was_complete {
            self.tally(scope_of(&name)).complete_before += 1;
        }
        let known = Known {
            recorded: Some(recorded),
            ran_before: true,
            was_complete,
            ..Known::default()
        };
        self.steps.insert(name, known);
    }

    fn tally(&mut self, scope: &str) -> &mut Tally {
        if !self.scopes.contains_key(scope) {
            self.scopes.insert(scope.into(), Tally::default());
        }
        // It was put there if it was not.
        self.scopes.entry(scope.into()).or_default()
    }

    /// Notes that a step is asked for, and says what is recorded of it, and the names in its scope if they seem to change from run to run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it was asked for before, and did not fail.
    pub(super) fn ask(&mut self, name: &str) -> Result<(Option<Recorded>, Option<Changed>)> {
        let known = match self.steps.get_mut(name) {
            Some(known) => known,
            None => self.steps.entry(name.into()).or_default(),
        };
        match known.asked {
            Asked::No => {}
            Asked::InProgress => return Err(in_progress(name)),
            Asked::Settled => return Err(twice(name)),
        }
        known.asked = Asked::InProgress;
        let (recorded, was_complete) = (known.recorded, known.was_complete);
        let is_first = !std::mem::replace(&mut known.was_asked, true);
        let mut changed = None;
        if is_first {
            let tally = self.tally(scope_of(name));
            if was_complete {
                tally.of_these_asked += 1;
            } else if recorded.is_none() {
                tally.new += 1;
                let is_early =
                    tally.new >= EARLY && tally.complete_before > 0 && tally.of_these_asked == 0;
                if is_early && !std::mem::replace(&mut tally.told, true) {
                    changed = Some(self.changed(scope_of(name)));
                }
            }
        }
        Ok((recorded, changed))
    }

    /// The body of the step begins: what was recorded of it holds no more, for its row in the file may change from now on. Says whether it ran in
    /// earlier runs.
    pub(super) fn begin(&mut self, name: &str) -> bool {
        self.steps.get_mut(name).is_some_and(|known| {
            known.recorded = None;
            known.ran_before
        })
    }

    /// The step ended without a result: it may be asked for again.
    pub(super) fn release(&mut self, name: &str) {
        if let Some(known) = self.steps.get_mut(name) {
            known.asked = Asked::No;
        }
    }

    /// The step has this for good, in this run.
    pub(super) fn settle(&mut self, name: &str, recorded: Recorded) {
        if let Some(known) = self.steps.get_mut(name) {
            known.asked = Asked::Settled;
            known.recorded = Some(recorded);
        }
    }

    /// The step around it ended without a result: it may be asked for again, and has what is recorded.
    pub(super) fn unsettle(&mut self, name: &str) {
        if let Some(known) = self.steps.get_mut(name) {
            // If it was forgotten and asked for again meanwhile, it is in other hands.
            if known.asked == Asked::Settled {
                known.asked = Asked::No;
            }
        }
    }

    /// What is recorded of a step.
    pub(super) fn recorded(&self, name: &str) -> Option<Recorded> {
        self.steps.get(name)?.recorded
    }

    /// Refuses to forget a step that is in progress.
    pub(super) fn check_forget(&self, name: &str) -> Result<()> {
        match self.steps.get(name) {
            Some(known) if known.asked == Asked::InProgress => Err(in_progress(name)),
            _ => Ok(()),
        }
    }

    /// The step is as if it had never run.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(known) = self.steps.get_mut(name) {
            known.asked = Asked::No;
            known.recorded = None;
            known.ran_before = false;
        }
    }

    /// The scopes in `within`, or all, in which some names are new and some recorded ones were not asked for; each is told once.
    pub(super) fn take_changed(&mut self, within: &str) -> Vec<Changed> {
        let mut scopes: Vec<Box<str>> = Vec::new();
        for (scope, tally) in &mut self.scopes {
            let is_within = within.is_empty()
                || scope
                    .strip_prefix(within)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let is_changed = tally.new > 0 && tally.of_these_asked < tally.complete_before;
            if is_within && is_changed && !tally.told {
                tally.told = true;
                scopes.push(scope.clone());
            }
        }
        scopes.sort();
        scopes.iter().map(|scope| self.changed(scope)).collect()
    }

    fn changed(&self, scope: &str) -> Changed {
        let names = |chosen: fn(&Known) -> bool| {
            let of_scope = |name: &str, known: &Known| scope_of(name) == scope && chosen(known);
            self.names(of_scope)
        };
        Changed {
            scope: scope.to_owned(),
            new: names(|known| known.was_asked && !known.was_complete),
            left: names(Known::was_left),
        }
    }

    /// The recorded steps that were not asked for.
    pub(super) fn left(&self) -> (Vec<String>, u64) {
        self.names(|_, known| known.was_left())
    }

    /// The first names of those that are chosen, sorted, and how many they are.
    fn names(&self, chosen: impl Fn(&str, &Known) -> bool) -> (Vec<String>, u64) {
        let mut names: Vec<&str> = self
            .steps
            .iter()
            .filter(|(name, known)| chosen(name, known))
            .map(|(name, _)| &**name)
            .collect();
        names.sort_unstable();
        let count = names.len() as u64;
        names.truncate(NAMED);
        (names.into_iter().map(str::to_owned).collect(), count)
    }
}

impl Known {
    fn was_left(&self) -> bool {
        self.was_complete && !self.was_asked && self.recorded.is_some()
    }
}

fn twice(name: &str) -> Error {
    Error::invalid(format!("step `{name}` was asked for before in this run")).with_hint(
        "give each pass of a loop a name of its own; `recorded` reads a result any number of times",
    )
}

fn in_progress(name: &str) -> Error {
    Error::invalid(format!("step `{name}` is in progress"))
        .with_hint("give what each thread does a name of its own")
}
