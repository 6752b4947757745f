//! Long storms and power cuts against the built command and against a program that saves checkpoints, with everything counted.
//!
//! The short ones run with every test; these are for the evidence, and for the night.
#![expect(
    clippy::disallowed_methods,
    reason = "a developer's tool reads where cargo builds"
)]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use safepoint::queue::View;
use safepoint_testkit::faults::Faults;
use safepoint_testkit::saves::{
    Cuts, PROGRAM, Plan as Saves, Recorded, SaveReport, SaveStorm, Saver, policies, shapes,
};
use safepoint_testkit::storm::{Blow, CutReport, PowerCuts, Report, Scenario, Storm, Victims};
use safepoint_testkit::supervised::{SuperviseReport, SuperviseStorm};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kills of the command that have to fire, over all storms.
    pub kills: u64,
    /// Kills of a program that saves checkpoints.
    pub save_kills: u64,
    /// Kills of a supervisor, its guard or its command.
    pub supervise_kills: u64,
    /// Points at which the power is cut in a recording.
    pub points: usize,
    /// Recordings.
    pub recordings: u64,
    /// Decides delays, calls and torn writes.
    pub seed: u64,
    /// The command, if not the one that is built from this repository.
    pub binary: Option<PathBuf>,
}

impl Plan {
    /// Some hours.
    pub fn long() -> Self {
        Self {
            kills: 10_000,
            save_kills: 10_000,
            supervise_kills: 1000,
            points: 500,
            recordings: 4,
            seed: 1,
            binary: None,
        }
    }

    /// About a minute, besides building.
    pub fn short() -> Self {
        Self {
            kills: 250,
            save_kills: 200,
            supervise_kills: 100,
            points: 100,
            recordings: 1,
            ..Self::long()
        }
    }

    /// From the arguments `[--short] [--kills N] [--save-kills N] [--supervise-kills N] [--seed S] [--binary PATH]`.
    ///
    /// # Errors
    ///
    /// The first argument that makes no sense.
    pub fn from_arguments(arguments: &[&str]) -> Result<Self, String> {
        let mut plan = if arguments.contains(&"--short") {
            Self::short()
        } else {
            Self::long()
        };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            if *name == "--short" {
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                value
                    .parse()
                    .map_err(|_| format!("{name}: {value} is no number"))
            };
            match *name {
                "--kills" => plan.kills = number()?,
                "--save-kills" => plan.save_kills = number()?,
                "--supervise-kills" => plan.supervise_kills = number()?,
                "--seed" => plan.seed = number()?,
                "--binary" => plan.binary = Some(value.into()),
                _ => return Err(format!("unknown argument {name}")),
            }
        }
        Ok(plan)
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The counts, as a table in Markdown.
    pub table: String,
    /// Everything that is wrong.
    pub problems: Vec<String>,
}

/// Builds a program as fast as a release, but in less time.
fn build(root: &Path, package: &str, program: &str) -> io::Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--profile", "torture", "--package"])
        .args([package, "--bin", program])
        .current_dir(root)
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("`{program}` cannot be built")));
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("torture").join(program))
}

/// The storms, each with its share of the kills in percent.
fn storms(binary: &Path) -> io::Result<Vec<(&'static str, u64, Storm)>> {
    let storm = Storm::new(OsString::from(binary));
    let patient = Scenario {
        items: 12,
        pause_ms: 300,
        ..Scenario::default()
    };
    let quick = Scenario {
        items: 20,
        pause_ms: 0,
        ..Scenario::default()
    };
    let mut at_calls = Storm {
        scenario: quick,
        ..storm.clone()
    };
    at_calls.blow = Blow::AnyCall {
        calls: at_calls.count_calls()?,
    };
    let both = Storm {
        victims: Victims::RunnerAndChildren,
        ..storm.clone()
    };
    let outliving = Storm {
        blow: Blow::Delay {
            longest: Duration::from_millis(500),
        },
        scenario: patient,
        ..storm.clone()
    };
    Ok(vec![
        ("runner, at random moments", 35, storm),
        ("runner and children, at random moments", 20, both),
        ("runner, attempts outlive it", 5, outliving),
        ("runner, at its file operations", 40, at_calls),
    ])
}

/// Does all of the plan. `say` is told how far it has come.
///
/// # Errors
///
/// The harness itself could not do something. What the command did wrong is in the verdict.
pub fn torture(root: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> io::Result<Verdict> {
    let mut verdict = Verdict {
        table: String::new(),
        problems: Vec::new(),
    };
    if plan.kills > 0 || plan.supervise_kills > 0 {
        let binary = match &plan.binary {
            Some(binary) => binary.canonicalize()?,
            None => build(root, "safepoint-cli", "safepoint")?,
        };
        if plan.kills > 0 {
            torture_command(&binary, plan, &mut verdict, say)?;
        }
        if plan.supervise_kills > 0 {
            torture_supervisor(&binary, plan, &mut verdict, say)?;
        }
    }
    if plan.save_kills > 0 {
        let saver = build(root, "safepoint-testkit", PROGRAM)?;
        torture_saves(&saver, plan, &mut verdict, say)?;
    }
    Ok(verdict)
}

fn torture_command(
    binary: &Path,
    plan: &Plan,
    verdict: &mut Verdict,
    say: &mut dyn FnMut(&str),
) -> io::Result<()> {
    verdict.table.push_str(
        "| killed | kills | acknowledged | lost | repeated | orphans | jobs finished |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for (name, percent, storm) in storms(binary)? {
        let found = blow(&storm, plan.kills * percent / 100, plan.seed, name, say)?;
        // Writing to a string cannot fail.
        let _ = writeln!(
            verdict.table,
            "| {name} | {} | {} | {} | {} | {} | {} |",
            found.fired,
            found.acknowledged,
            found.lost,
            found.doubled,
            found.orphans,
            found.finished
        );
        let problems = found.problems.into_iter();
        verdict
            .problems
            .extend(problems.map(|problem| format!("{name}: {problem}")));
    }
    verdict.table.push_str(
        "\n| power cut | images | acknowledged | losing | resumed |\n|---|--:|--:|--:|--:|\n",
    );
    cut(binary, plan, verdict, say)
}

/// Kills of a supervisor, of its guard and of its command.
fn torture_supervisor(
    binary: &Path,
    plan: &Plan,
    verdict: &mut Verdict,
    say: &mut dyn FnMut(&str),
) -> io::Result<()> {
    verdict.table.push_str(
        "\n| supervised command | strikes | orphans | untrue ends |\n|---|--:|--:|--:|\n",
    );
    let mut total = SuperviseReport::default();
    while total.kills() < plan.supervise_kills && total.problems.len() < 50 {
        let found = SuperviseStorm {
            kills: (plan.supervise_kills - total.kills()).min(100),
            seed: plan
                .seed
                .wrapping_mul(1_000_003)
                .wrapping_add(total.kills()),
            ..SuperviseStorm::new(binary.to_path_buf())
        }
        .run()?;
        for (sum, hits) in total.hits.iter_mut().zip(found.hits) {
            *sum += hits;
        }
        total.orphans += found.orphans;
        total.untrue += found.untrue;
        let problems = found.problems.into_iter();
        total
            .problems
            .extend(problems.map(|problem| format!("seed {}, {problem}", found.seed)));
        say(&format!(
            "supervised: {} of {} strikes",
            total.kills(),
            plan.supervise_kills
        ));
    }
    let [supervisor, guard, command, asked] = total.hits;
    // Writing to a string cannot fail.
    let _ = writeln!(
        verdict.table,
        "| killed: supervisor {supervisor}, guard {guard}, command {command}; asked to stop {asked} | {} | {} | {} |",
        total.kills(),
        total.orphans,
        total.untrue
    );
    verdict.problems.extend(total.problems);
    Ok(())
}

/// Kills of a saver, half of them where new files need a name, and power cuts in recordings of it.
fn torture_saves(
    program: &Path,
    plan: &Plan,
    verdict: &mut Verdict,
    say: &mut dyn FnMut(&str),
) -> io::Result<()> {
    let saver = |saves: Saves| Saver {
        program: program.to_path_buf(),
        plan: saves,
    };
    verdict.table.push_str(
        "\n| saver killed at random moments | kills | acknowledged | lost | unreadable | left over | torn records, told |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    let shares = shapes().into_iter().flat_map(|(name, saves)| {
        [
            (name, "", saves.clone(), false),
            (name, ", files need a name", saves, true),
        ]
    });
    let share = plan.save_kills.div_ceil(2 * shapes().len() as u64);
    for (number, (name, how, saves, named)) in (0..).zip(shares) {
        let mut total = SaveReport::default();
        while total.kills < share && total.problems.len() < 50 {
            // In parts, so that it can be seen how far it has come.
            let found = SaveStorm {
                kills: (share - total.kills).min(100),
                longest: Duration::from_millis(if saves.bytes > 1 << 20 { 60 } else { 15 }),
                named,
                seed: plan
                    .seed
                    .wrapping_mul(1_000_003)
                    .wrapping_add(number * 100_000 + total.kills),
                ..SaveStorm::new(saver(saves.clone()))
            }
            .run()?;
            total.kills += found.kills;
            total.acknowledged += found.acknowledged;
            total.lost += found.lost;
            total.unreadable += found.unreadable;
            total.left_over += found.left_over;
            total.torn += found.torn;
            let problems = found.problems.into_iter();
            total
                .problems
                .extend(problems.map(|problem| format!("seed {}, {problem}", found.seed)));
            say(&format!("{name}{how}: {} of {share} kills", total.kills));
        }
        // Writing to a string cannot fail.
        let _ = writeln!(
            verdict.table,
            "| {name}{how} | {} | {} | {} | {} | {} | {} |",
            total.kills,
            total.acknowledged,
            total.lost,
            total.unreadable,
            total.left_over,
            total.torn
        );
        let problems = total.problems.into_iter();
        verdict
            .problems
            .extend(problems.map(|problem| format!("{name}{how}: {problem}")));
    }
    verdict.table.push_str(
        "\n| power cut while saving | images | acknowledged | losing |\n|---|--:|--:|--:|\n",
    );
    let seeds = plan.recordings;
    for (name, saves) in shapes() {
        let found = cut_saves(&saver(Saves { steps: 4, ..saves }), seeds, |faults| faults)?;
        let _ = writeln!(
            verdict.table,
            "| {name} | {} | {} | {} |",
            found.images, found.acknowledged, found.losing
        );
        verdict.problems.extend(found.problems);
        say(&format!("power cuts while saving: {name}"));
    }
    for (what, calls) in [("files", ["fdatasync"]), ("directories", ["fsync"])] {
        let small = saver(Saves {
            steps: 4,
            ..Saves::default()
        });
        let found = cut_saves(&small, 1, |faults| faults.only(&calls).lie())?;
        let _ = writeln!(
            verdict.table,
            "| control: syncs of {what} forged | {} | {} | {} |",
            found.images, found.acknowledged, found.losing
        );
        if found.losing == 0 {
            verdict.problems.push(format!(
                "forged syncs of {what} lost nothing, so the images prove nothing"
            ));
        }
    }
    Ok(())
}

fn cut_saves(saver: &Saver, seeds: u64, change: impl Fn(Faults) -> Faults) -> io::Result<Cuts> {
    let recorded = Recorded::new(saver.clone())?;
    recorded.run(change)?;
    recorded.cut_everywhere(&policies(seeds))
}

/// Storms until so many kills have fired.
fn blow(
    storm: &Storm,
    kills: u64,
    seed: u64,
    name: &str,
    say: &mut dyn FnMut(&str),
) -> io::Result<Report> {
    let mut total = Report::default();
    let mut batch = 0;
    while total.fired < kills && total.problems.len() < 50 {
        let found = Storm {
            rounds: 3,
            seed: seed.wrapping_mul(1_000_003).wrapping_add(batch),
            ..storm.clone()
        }
        .run()?;
        batch += 1;
        total.fired += found.fired;
        total.acknowledged += found.acknowledged;
        total.lost += found.lost;
        total.doubled += found.doubled;
        total.orphans += found.orphans;
        total.finished += found.finished;
        let seed = found.seed;
        let problems = found.problems.into_iter();
        total
            .problems
            .extend(problems.map(|problem| format!("seed {seed}, {problem}")));
        say(&format!("{name}: {} of {kills} kills", total.fired));
        if batch > 20 && total.fired == 0 {
            return Err(io::Error::other(format!("{name}: no kill comes in time")));
        }
    }
    Ok(total)
}

fn cut(
    binary: &Path,
    plan: &Plan,
    verdict: &mut Verdict,
    say: &mut dyn FnMut(&str),
) -> io::Result<()> {
    let mut storm = Storm::new(OsString::from(binary));
    storm.scenario.items = 60;
    storm.scenario.pause_ms = 0;
    let mut total = CutReport::default();
    for recording in 0..plan.recordings {
        let cuts = PowerCuts::new(plan.points, 4, 10);
        let found = storm.cut_power(&storm.record(|faults| faults)?, &cuts, invariants)?;
        total.images += found.images;
        total.acknowledged += found.acknowledged;
        total.losing += found.losing;
        total.resumed += found.resumed;
        verdict.problems.extend(found.problems);
        say(&format!(
            "power cuts: recording {} of {}",
            recording + 1,
            plan.recordings
        ));
    }
    let control = storm.cut_power(
        &storm.record(Faults::lie)?,
        &PowerCuts::new(40, 1, 0),
        |_| Vec::new(),
    )?;
    if control.losing == 0 {
        let problem = "the negative control lost nothing, so the images prove nothing";
        verdict.problems.push(problem.to_owned());
    }
    for (name, found) in [
        ("strict and torn", total),
        ("control: syncs forged", control),
    ] {
        let _ = writeln!(
            verdict.table,
            "| {name} | {} | {} | {} | {} |",
            found.images, found.acknowledged, found.losing, found.resumed
        );
    }
    Ok(())
}

/// What the library itself finds wrong with a `job.db`.
fn invariants(database: &Path) -> Vec<String> {
    match View::open(database).and_then(|view| view.validate()) {
        Ok(problems) => problems.into_iter().map(|problem| problem.0).collect(),
        Err(error) => vec![error.chain()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_change_the_plan_and_nonsense_is_named() {
        let plan = Plan::from_arguments(&["--short", "--kills", "7", "--seed", "9"]);
        let plan = plan.expect("a plan");
        assert_eq!((plan.kills, plan.seed, plan.recordings), (7, 9, 1));
        assert_eq!(
            Plan::from_arguments(&["--kils", "7"]).expect_err("no plan"),
            "unknown argument --kils"
        );
        assert!(Plan::from_arguments(&["--seed"]).is_err());
    }
}
