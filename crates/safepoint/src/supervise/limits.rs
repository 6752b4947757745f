//! Limits that become stop requests: time, silence, memory. (A budget is one of the stop itself.)

use std::time::Duration;

use rustix::process::Pid;

use super::{Handle, Options};
use crate::clock::Moment;
use crate::process::resident_bytes_below;
use crate::shutdown::{Source, StopRequest};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a look at the limits found.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Four fifths are used up.
    Near(String),
    /// It is reached.
    Reached(StopRequest),
}

/// The limits of a run.
#[derive(Debug)]
pub(super) struct Limits {
    began: Moment,
    is_time_told: bool,
    idle: Once,
    memory: Once,
    looked_at_memory: Moment,
}

/// What was said of a limit.
#[derive(Debug, Default)]
struct Once {
    is_near: bool,
    is_reached: bool,
}

impl Once {
    /// What is to be said of `used` of `limit`, if that was not said before.
    fn look(&mut self, used: u64, limit: u64) -> Option<bool> {
        if used >= limit && !self.is_reached {
            self.is_reached = true;
            self.is_near = true;
            return Some(true);
        }
        if used >= limit - limit / 5 && !self.is_near {
            self.is_near = true;
            return Some(false);
        }
        if used < limit - limit / 5 {
            self.is_near = self.is_reached;
        }
        None
    }
}

impl Limits {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            began: now,
            is_time_told: false,
            idle: Once::default(),
            memory: Once::default(),
            looked_at_memory: now,
        }
    }

    /// Looks at all that is due.
    pub(super) fn look(
        &mut self,
        now: Moment,
        options: &Options,
        handle: &Handle,
        guard: Option<Pid>,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        if let Some(limit) = options.time_limit
            && !self.is_time_told
            && now >= self.began + limit.mul_f64(0.8)
        {
            self.is_time_told = true;
            found.push(Found::Near(format!(
                "four fifths of the time limit of {} have passed",
                seconds(limit)
            )));
        }
        if let (Some(limit), Some(_)) = (options.idle_limit, guard) {
            let silent = handle.silence(now);
            let (used, whole) = (millis(silent), millis(limit));
            match self.idle.look(used, whole) {
                Some(true) => found.push(Found::Reached(StopRequest::graceful(
                    Source::Timeout,
                    format!("no output and no heartbeat for {}", seconds(limit)),
                ))),
                Some(false) => found.push(Found::Near(format!(
                    "no output and no heartbeat for {} of {}",
                    seconds(silent),
                    seconds(limit)
                ))),
                None => {}
            }
        }
        if let (Some(limit), Some(guard)) = (options.memory_limit, guard)
            && now >= self.looked_at_memory + LOOK
        {
            self.looked_at_memory = now;
            let used = resident_bytes_below(guard);
            match self.memory.look(used, limit) {
                Some(true) => found.push(Found::Reached(StopRequest::graceful(
                    Source::Budget,
                    format!(
                        "memory limit of {} reached ({} in use)",
                        mib(limit),
                        mib(used)
                    ),
                ))),
                Some(false) => found.push(Found::Near(format!(
                    "{} of the memory limit of {} are in use",
                    mib(used),
                    mib(limit)
                ))),
                None => {}
            }
        }
        found
    }

    /// How long until something may be due.
    pub(super) fn next(
        &self,
        now: Moment,
        options: &Options,
        handle: &Handle,
        is_alive: bool,
    ) -> Option<Duration> {
        let time = options
            .time_limit
            .filter(|_| !self.is_time_told)
            .map(|limit| (self.began + limit.mul_f64(0.8)).since(now));
        let idle = options.idle_limit.filter(|_| is_alive).and_then(|limit| {
            let mark = match (self.idle.is_near, self.idle.is_reached) {
                (_, true) => return None,
                (true, false) => limit,
                (false, false) => limit.mul_f64(0.8),
            };
            // A millisecond more, for the clock of silence counts whole ones.
            Some(mark.saturating_sub(handle.silence(now)) + Duration::from_millis(1))
        });
        let memory = options
            .memory_limit
            .filter(|_| is_alive && !self.memory.is_reached)
            .map(|_| (self.looked_at_memory + LOOK).since(now));
        [time, idle, memory].into_iter().flatten().min()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(time: Duration) -> String {
    let text = format!("{:.1}", time.as_secs_f64());
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_is_told_once_and_again_after_it_was_left() {
        let mut once = Once::default();
        assert_eq!(once.look(79, 100), None);
        assert_eq!(once.look(80, 100), Some(false));
        assert_eq!(once.look(90, 100), None);
        assert_eq!(once.look(10, 100), None);
        assert_eq!(once.look(85, 100), Some(false));
        assert_eq!(once.look(100, 100), Some(true));
        assert_eq!(once.look(200, 100), None);
        assert_eq!(once.look(10, 100), None);
        assert_eq!(once.look(80, 100), None);
    }
}
