//! Finds and ends the processes of a round by what is in their environment.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Processes that carry this round's `STORM_DIR`, or a `SAFEPOINT_STATE` below its directory. The dying have no
/// environment any more.
pub(super) fn alive(directory: &Path) -> Vec<Pid> {
    let ours = [
        [b"STORM_DIR=", directory.as_os_str().as_bytes()].concat(),
        [b"SAFEPOINT_STATE=", directory.as_os_str().as_bytes()].concat(),
    ];
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let carries = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let state_or_storm =
            |variable: &[u8]| variable == ours[0] || variable.starts_with(&ours[1]);
        environment.split(|byte| *byte == 0).any(state_or_storm)
    };
    pids.filter(carries).map(Pid::from_raw).collect()
}

/// What is still alive when the killed had time to die.
pub(super) fn settled(directory: &Path, patience: Duration) -> Vec<Pid> {
    let start = Instant::now();
    loop {
        let found = alive(directory);
        if found.is_empty() || start.elapsed() > patience {
            return found;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Kills until none is left; those born meanwhile are found the next time round.
pub(super) fn end_all(directory: &Path) {
    for _ in 0..1000 {
        let found = alive(directory);
        if found.is_empty() {
            return;
        }
        for pid in found {
            let _ = kill(pid, Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ends all when a round is over, however that comes.
pub(super) struct EndAll<'a>(pub(super) &'a Path);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        end_all(self.0);
    }
}
