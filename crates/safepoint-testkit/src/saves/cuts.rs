//! Cuts the power in recorded runs of a saver, after each event, and looks at what is left.

use std::fmt;
use std::io;

use super::{Acknowledged, How, Place, Plan, Said, Saver, verify};
use crate::faults::Faults;
use crate::image::{History, Names, Policy};
use crate::trace::Trace;

/// Runs of a saver, recorded one after the other in one place.
#[derive(Debug)]
pub struct Recorded {
    place: Place,
    saver: Saver,
}

impl Recorded {
    /// Nothing yet.
    ///
    /// # Errors
    ///
    /// The place cannot be made.
    pub fn new(saver: Saver) -> io::Result<Self> {
        Ok(Self {
            place: Place::new()?,
            saver,
        })
    }

    /// One more run, under these faults. Whether it came to its end by itself.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn run(&self, change: impl Fn(Faults) -> Faults) -> io::Result<bool> {
        let faults = change(self.place.faults()?).record(&self.place.beside("trace"));
        let ended = self.saver.run(&self.place.store(), Some(&faults))?;
        Ok(ended.status.code().is_some())
    }

    /// All that was done so far.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn trace(&self) -> io::Result<Trace> {
        Trace::read(&self.place.beside("trace"))
    }

    /// Cuts the power after each event, and verifies each image.
    ///
    /// # Errors
    ///
    /// The harness itself could not do something. What is wrong with an image is in the report.
    pub fn cut_everywhere(&self, policies: &[Policy]) -> io::Result<Cuts> {
        let trace = self.trace()?;
        let history = History::new(&trace);
        let image = Place::new()?;
        let mut cuts = Cuts::default();
        for cut in 0..=history.events() {
            let lines = trace.acknowledged_lines(cut);
            let said: Vec<Said> = lines.iter().filter_map(|line| Said::parse(line)).collect();
            let acknowledged = Acknowledged::of(&said);
            for policy in policies {
                history.image(cut, *policy).write_to(&image.watched())?;
                let found = verify(&image.store(), &self.saver.plan, &acknowledged);
                cuts.images += 1;
                cuts.acknowledged += acknowledged.count();
                cuts.losing += u64::from(!found.is_clean());
                let problems = found.problems.into_iter();
                cuts.problems
                    .extend(problems.map(|problem| format!("cut {cut}, {policy:?}: {problem}")));
            }
        }
        Ok(cuts)
    }
}

/// All that may be left: everything, what is durable in the strict sense or as on ext4, and torn writes by so many seeds.
pub fn policies(seeds: u64) -> Vec<Policy> {
    let kinds = [Names::DirectorySync, Names::FileSync];
    let torn = |seed| kinds.map(|names| Policy::Torn { seed, names });
    let mut policies = vec![Policy::KeepAll];
    policies.extend(kinds.map(Policy::DropUnsynced));
    policies.extend((0..seeds).flat_map(torn));
    policies
}

/// What the images of a recording showed.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Images that were made.
    pub images: u64,
    /// Acknowledged saves, summed over the images.
    pub acknowledged: u64,
    /// Images in which something was lost, unreadable or left over.
    pub losing: u64,
    /// What, in words.
    pub problems: Vec<String>,
}

impl Cuts {
    /// Adds another recording's.
    pub fn add(&mut self, other: Self) {
        self.images += other.images;
        self.acknowledged += other.acknowledged;
        self.losing += other.losing;
        self.problems.extend(other.problems);
    }
}

impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "images {}, acknowledged {}, losing {}",
            self.images, self.acknowledged, self.losing
        )?;
        for problem in self.problems.iter().take(20) {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// The shapes of states that are tried: small, in several frames by two threads, two that are compressed, and the other ways to save.
pub fn shapes() -> [(&'static str, Plan); 5] {
    let small = Plan::default();
    let large = Plan {
        bytes: 3 << 20,
        buffers: 3,
        ..Plan::default()
    };
    let several = Plan {
        names: vec!["model".into(), "optimizer".into()],
        bytes: 300_000,
        compressible: true,
        ..Plan::default()
    };
    let journal = Plan {
        how: How::Small,
        bytes: 500,
        ..Plan::default()
    };
    let background = Plan {
        how: How::Background,
        bytes: 300_000,
        ..Plan::default()
    };
    [
        ("a small state", small),
        ("a large state, in frames by two threads", large),
        ("two states that are compressed", several),
        ("a small state, in a journal", journal),
        ("a state that is saved in the background", background),
    ]
}
