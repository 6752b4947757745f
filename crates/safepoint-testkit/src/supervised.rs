//! Kills `safepoint supervise`, its guard or its command at random moments, and looks whether anything of it lives on and whether it said the truth.
//!
//! Every process below holds the write end of a pipe. When that pipe hangs up, all are gone, also those that left their session with an empty environment.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

use crate::random::Random;

/// A command with a family: one child beside it, one in a session of its own with an empty environment that has a child itself.
const FAMILY: &str = "trap 'exit 0' TERM; sleep 1000 & setsid env -i sh -c 'sleep 1000 & exec sleep 1000' & : > up; while :; do sleep 0.01; done";

/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom a round strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Supervisor,
    Guard,
    Command,
    /// Nobody: it is asked to stop.
    Asked,
}

/// Rounds of supervised commands, each struck at a random moment.
#[derive(Clone, Debug)]
pub struct SuperviseStorm {
    /// The command `safepoint`.
    pub binary: PathBuf,
    /// Strikes that have to hit.
    pub kills: u64,
    /// The longest time before a strike.
    pub longest: Duration,
    /// Decides victims and moments.
    pub seed: u64,
}

/// What a storm found.
#[derive(Clone, Debug, Default)]
pub struct SuperviseReport {
    /// What decided it.
    pub seed: u64,
    /// Strikes that hit the supervisor, the guard, the command; and requests to stop.
    pub hits: [u64; 4],
    /// Rounds after which something lived on.
    pub orphans: u64,
    /// Rounds that ended in another way than the strike says.
    pub untrue: u64,
    /// Everything that is wrong, in words.
    pub problems: Vec<String>,
}

impl SuperviseReport {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// All strikes.
    pub fn kills(&self) -> u64 {
        self.hits.iter().sum()
    }
}

impl fmt::Display for SuperviseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "strikes {:?}, orphans {}, untrue {} (seed {})",
            self.hits, self.orphans, self.untrue, self.seed
        )
    }
}

impl SuperviseStorm {
    /// A storm of a few kills within the first 60 ms, which is from before the command is started to when its family is up.
    pub fn new(binary: PathBuf) -> Self {
        Self {
            binary,
            kills: 20,
            longest: Duration::from_millis(60),
            seed: 1,
        }
    }

    /// Strikes until enough have hit.
    ///
    /// # Errors
    ///
    /// When the harness itself could not do something.
    pub fn run(&self) -> io::Result<SuperviseReport> {
        let place = tempfile::tempdir()?;
        let mut random = Random::new(self.seed);
        let mut report = SuperviseReport {
            seed: self.seed,
            ..SuperviseReport::default()
        };
        let mut rounds = 0;
        while report.kills() < self.kills && report.problems.len() < 20 {
            rounds += 1;
            if rounds > 20 + 20 * self.kills {
                return Err(io::Error::other("no strike comes in time"));
            }
            self.round(place.path(), &mut random, &mut report)?;
        }
        Ok(report)
    }

    fn round(
        &self,
        place: &Path,
        random: &mut Random,
        report: &mut SuperviseReport,
    ) -> io::Result<()> {
        let victim = match random.below(8) {
            0..3 => Victim::Supervisor,
            3 => Victim::Guard,
            4..7 => Victim::Command,
            _ => Victim::Asked,
        };
        let longest = u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(random.below(longest));
        let (reading, mut child) = self.start(place)?;
        thread::sleep(wait);
        let target = target(&child, victim);
        let Some((target, signal)) = target else {
            // Not there yet. The round ends as one that nobody struck.
            end(&mut child, Signal::SIGKILL)?;
            if !hangs_up(reading)? {
                report.orphans += 1;
                report
                    .problems
                    .push("before its victim was there: something lives on".into());
            }
            return Ok(());
        };
        let hit = kill(target, signal).is_ok();
        let status = ended(&mut child)?;
        if !hit {
            return Ok(());
        }
        let number = report.kills();
        report.hits[victim as usize] += 1;
        if !hangs_up(reading)? {
            report.orphans += 1;
            report.problems.push(format!(
                "strike {number} at {victim:?} after {wait:?}: something lives on"
            ));
        }
        if !is_true(victim, status) {
            report.untrue += 1;
            let said = fs::read_to_string(place.join("stderr")).unwrap_or_default();
            report.problems.push(format!(
                "strike {number} at {victim:?} after {wait:?}: it ended with {status}: {said}"
            ));
        }
        Ok(())
    }

    /// Starts a round; what is returned hangs up when all of it is gone.
    fn start(&self, place: &Path) -> io::Result<(OwnedFd, Child)> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
        let mut command = Command::new(&self.binary);
        command
            .args(["supervise", "--name", "storm", "--kill-after", "5s", "--"])
            .args(["sh", "-c", FAMILY])
            .current_dir(place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(place.join("stderr"))?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SAFEPOINT_") {
                command.env_remove(name);
            }
        }
        // A group of its own, so that nothing of the harness's is meant.
        command.process_group(0);
        fcntl(&writing, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let child = command.spawn();
        drop(writing);
        Ok((reading, child?))
    }
}

/// Whom to signal, and how, if it is there.
fn target(child: &Child, victim: Victim) -> Option<(Pid, Signal)> {
    let supervisor = Pid::from_raw(i32::try_from(child.id()).ok()?);
    let first_child = |pid: Pid| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(path).ok()?;
        text.split_whitespace()
            .next()?
            .parse()
            .ok()
            .map(Pid::from_raw)
    };
    match victim {
        Victim::Supervisor => Some((supervisor, Signal::SIGKILL)),
        Victim::Asked => is_listening(supervisor).then_some((supervisor, Signal::SIGTERM)),
        Victim::Guard => Some((guard_of(supervisor)?, Signal::SIGKILL)),
        Victim::Command => Some((first_child(guard_of(supervisor)?)?, Signal::SIGKILL)),
    }
}

/// The guard: the child of any thread of the supervisor.
fn guard_of(supervisor: Pid) -> Option<Pid> {
    let threads = fs::read_dir(format!("/proc/{supervisor}/task")).ok()?;
    threads.flatten().find_map(|thread| {
        let text = fs::read_to_string(thread.path().join("children")).ok()?;
        text.split_whitespace()
            .next()?
            .parse()
            .ok()
            .map(Pid::from_raw)
    })
}

/// Whether it catches SIGTERM by now.
fn is_listening(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (Signal::SIGTERM as i32 - 1)) != 0)
}

/// Whether a round that was struck so may end so.
fn is_true(victim: Victim, status: ExitStatus) -> bool {
    match victim {
        // The first process is the victim itself; the command died of a kill, and that is passed on.
        Victim::Supervisor | Victim::Command => status.signal() == Some(9),
        // A guard that dies before it has said that the command runs is our own failure.
        Victim::Guard => status.signal() == Some(9) || status.code() == Some(125),
        // Before its trap is set the command dies of the signal; and before it is started there is nothing to interrupt.
        Victim::Asked => status.code() == Some(75) || status.signal() == Some(15),
    }
}

fn end(child: &mut Child, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    let _ = kill(pid, signal);
    child.wait().map(drop)
}

/// Waits for the supervisor; one that hangs is killed.
fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other("`safepoint supervise` does not end"));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether all who hold the other end are gone in time.
fn hangs_up(reading: OwnedFd) -> io::Result<bool> {
    let mut pipe = File::from(reading);
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let start = Instant::now();
    loop {
        match pipe.read(&mut [0; 64]) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if start.elapsed() > PATIENCE {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
