//! Cuts the power at many points of a recorded run, looks at what is left, and resumes from some of it.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::launch::{self, Run};
use super::report::Report;
use super::scenario::SIDE;
use super::{Recording, Storm, database, stored, survivors, verify};
use crate::image::{History, Names, Policy};

/// Which images are made of a recording.
#[derive(Clone, Debug)]
pub struct PowerCuts {
    /// About so many cut points, spread over the whole recording.
    pub points: usize,
    /// What is left at each of them.
    pub policies: Vec<Policy>,
    /// From every so many-th image the same command is run to its end; 0: from none.
    pub resume_every: usize,
}

impl PowerCuts {
    /// The two strict policies and torn writes by so many seeds.
    pub fn new(points: usize, seeds: u64, resume_every: usize) -> Self {
        let mut policies = vec![
            Policy::DropUnsynced(Names::DirectorySync),
            Policy::DropUnsynced(Names::FileSync),
        ];
        policies.extend((0..seeds).map(|seed| Policy::Torn {
            seed,
            names: Names::DirectorySync,
        }));
        Self {
            points,
            policies,
            resume_every,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct CutReport {
    /// Events in the recording: the last cut.
    pub events: usize,
    /// Images that were made and looked at.
    pub images: u64,
    /// Acknowledged results that were looked for in them, together.
    pub acknowledged: u64,
    /// Images in which one of them was missing.
    pub losing: u64,
    /// Images from which the command was run to its end.
    pub resumed: u64,
    /// Everything that is wrong.
    pub problems: Vec<String>,
}

impl CutReport {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for CutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "events {}, images {}, acknowledged {}, losing {}, resumed {}",
            self.events, self.images, self.acknowledged, self.losing, self.resumed
        )?;
        for problem in self.problems.iter().take(20) {
            write!(f, "\n  {problem}")?;
        }
        match self.problems.len().saturating_sub(20) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl Storm {
    /// Cuts the power in a recording of this storm. `invariants` says what is wrong with a `job.db`.
    ///
    /// # Errors
    ///
    /// The harness itself could not do something.
    pub fn cut_power(
        &self,
        recording: &Recording,
        cuts: &PowerCuts,
        invariants: impl Fn(&Path) -> Vec<String>,
    ) -> io::Result<CutReport> {
        let directory = recording.folder.path().canonicalize()?;
        let _guard = survivors::EndAll(&directory);
        let history = History::new(&recording.trace);
        let notes = fs::read(directory.join(SIDE))?;
        let mut report = CutReport {
            events: history.events(),
            ..CutReport::default()
        };
        let step = (history.events() / cuts.points.max(1)).max(1);
        for cut in (0..=history.events()).step_by(step) {
            let acknowledged = recording.trace.acknowledged_lines(cut);
            for policy in &cuts.policies {
                let place = format!("cut {cut}, {policy:?}");
                let image = history.image(cut, *policy);
                image.write_to(&directory.join(".safepoint"))?;
                report.images += 1;
                report.acknowledged += acknowledged.len() as u64;
                look(&directory, &acknowledged, &place, &invariants, &mut report);
                if cuts.resume_every > 0 && report.images.is_multiple_of(cuts.resume_every as u64) {
                    // Looking has recovered the database; the command must manage by itself.
                    image.write_to(&directory.join(".safepoint"))?;
                    fs::write(directory.join(SIDE), &notes)?;
                    self.resume(&directory, acknowledged.clone(), &place, &mut report)?;
                }
            }
        }
        Ok(report)
    }

    fn resume(
        &self,
        directory: &Path,
        acknowledged: Vec<String>,
        place: &str,
        report: &mut CutReport,
    ) -> io::Result<()> {
        report.resumed += 1;
        let run = launch::launch(self, directory, 2, None)?;
        let mut found = Report::default();
        if let Some(complaint) = run.complaint(false) {
            found.problem(complaint);
        } else {
            let runs = [Run::recorded(acknowledged), run];
            verify::verify(self, directory, &runs, 0, &mut found)?;
        }
        let problems = found.problems.iter();
        report
            .problems
            .extend(problems.map(|problem| format!("{place}, resumed: {problem}")));
        Ok(())
    }
}

fn look(
    directory: &Path,
    acknowledged: &[String],
    place: &str,
    invariants: &impl Fn(&Path) -> Vec<String>,
    report: &mut CutReport,
) {
    let database = database(directory);
    let missing = if database.exists() {
        let problems = invariants(&database).into_iter();
        report
            .problems
            .extend(problems.map(|problem| format!("{place}: {problem}")));
        stored::missing(&database, acknowledged)
    } else {
        acknowledged.len()
    };
    if missing > 0 {
        report.losing += 1;
        let all = acknowledged.len();
        report.problems.push(format!(
            "{place}: {missing} of {all} acknowledged results are lost"
        ));
    }
}
