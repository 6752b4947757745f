//! Kills a saver at random moments, over and over in one directory, and looks at what is there each time.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use super::{Acknowledged, How, Place, Plan, Said, Saver, verify};
use crate::random::Random;

/// A saver that is killed while it saves.
#[derive(Clone, Debug)]
pub struct SaveStorm {
    /// It saves until it dies, whatever its plan says of steps.
    pub saver: Saver,
    /// Kills that have to fire.
    pub kills: u64,
    /// The longest time a run has.
    pub longest: Duration,
    /// Whether new files need a name, which a kill leaves behind.
    pub named: bool,
    /// Decides the times.
    pub seed: u64,
}

/// What a storm found.
#[derive(Clone, Debug, Default)]
pub struct SaveReport {
    /// What decided it.
    pub seed: u64,
    /// Kills that fired.
    pub kills: u64,
    /// Saves that were acknowledged.
    pub acknowledged: u64,
    /// Times that the newest acknowledged one was not there.
    pub lost: u64,
    /// Generations and states that could not be loaded.
    pub unreadable: u64,
    /// Temporary files that were there after the next opening.
    pub left_over: u64,
    /// Records of a journal that a kill tore before they were acknowledged, and that the next run told of.
    pub torn: u64,
    /// Everything that is wrong, in words.
    pub problems: Vec<String>,
}

impl SaveReport {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for SaveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills {}, acknowledged {}, lost {}, unreadable {}, left over {} (seed {})",
            self.kills, self.acknowledged, self.lost, self.unreadable, self.left_over, self.seed
        )?;
        for problem in self.problems.iter().take(20) {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// After so many kills a fresh directory is begun, so that first saves are struck, too.
const KILLS_IN_ONE_PLACE: u64 = 50;

impl SaveStorm {
    /// A storm of short runs.
    pub fn new(saver: Saver) -> Self {
        Self {
            saver,
            kills: 100,
            longest: Duration::from_millis(15),
            named: false,
            seed: 1,
        }
    }

    /// Kills until enough have fired, or too much is wrong.
    ///
    /// # Errors
    ///
    /// The harness itself could not do something. What the saver did wrong is in the report.
    pub fn run(&self) -> io::Result<SaveReport> {
        let mut report = SaveReport {
            seed: self.seed,
            ..SaveReport::default()
        };
        let mut random = Random::new(self.seed);
        while report.kills < self.kills && report.problems.len() < 50 {
            let place = Place::new()?;
            let mut acknowledged = Acknowledged::default();
            for _ in 0..KILLS_IN_ONE_PLACE.min(self.kills - report.kills) {
                self.strike(&place, &mut random, &mut acknowledged, &mut report)?;
            }
            report.acknowledged += acknowledged.count();
        }
        Ok(report)
    }

    fn strike(
        &self,
        place: &Place,
        random: &mut Random,
        acknowledged: &mut Acknowledged,
        report: &mut SaveReport,
    ) -> io::Result<()> {
        let endless = self.saver.with(Plan {
            steps: u64::from(u32::MAX),
            ..self.saver.plan.clone()
        });
        let mut command = endless.command(&place.store());
        if self.named {
            let faults = place.faults()?.without_nameless_files();
            faults.apply(&mut command)?;
        }
        let longest = u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(random.below(longest));
        let mut child = command.spawn()?;
        // Not to wait for anything: the moment of the kill is what the seed decides.
        thread::sleep(delay);
        child.kill()?;
        let output = child.wait_with_output()?;
        let said = Said::all(&output.stdout);
        let at = format!("kill {} after {delay:?}", report.kills);
        if output.status.signal() == Some(9) {
            report.kills += 1;
        } else {
            let problem = format!("{at}: it had ended with {}: {said:?}", output.status);
            report.problems.push(problem);
        }
        acknowledged.hear(&said);
        for said in &said {
            match said {
                // A kill may tear a record of a journal; the run behind it has to tell, and `verify` says whether that cost anything.
                Said::Notice(text)
                    if self.saver.plan.how == How::Small
                        && text.contains("is not whole: a crash tore a record") =>
                {
                    report.torn += 1;
                }
                Said::Failed { .. } | Said::Error(_) | Said::Notice(_) => {
                    report.problems.push(format!("{at}: {said}"));
                }
                Said::Found { .. } | Said::Nothing { .. } | Said::Saved { .. } => {}
            }
        }
        let found = verify(&place.store(), &self.saver.plan, acknowledged);
        report.lost += found.lost;
        report.unreadable += found.unreadable;
        report.left_over += found.left_over;
        let problems = found.problems.into_iter();
        report
            .problems
            .extend(problems.map(|problem| format!("{at}: {problem}")));
        Ok(())
    }
}
