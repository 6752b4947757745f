//! When to save: often enough that little is lost, seldom enough that little is spent.

use std::time::Duration;

use super::store::CheckpointStore;
use crate::clock::{Clock, Moment};

/// What of a loop's time saving may cost at most, by an automatic schedule: 3.5 %.
pub const MAX_OVERHEAD: f64 = 0.035;

/// Decides at which steps of a loop to save.
///
/// ```
/// use safepoint::checkpoint::Schedule;
/// let mut schedule = Schedule::every_steps(100);
/// let saved: Vec<u32> = (1..=300).filter(|_| schedule.due()).collect();
/// assert_eq!(saved, [100, 200, 300]);
/// ```
///
/// Call [`due`](Self::due) once at the end of each step, and save when it says so. One that says so begins to count anew.
///
/// # Automatic
///
/// [`automatic`](Self::automatic) measures what a save costs *the loop*: the time by which the steps around it took longer than steps
/// did when nothing was being saved. From that cost and the mean time between failures it takes Young's interval, the square root of twice
/// their product, which loses the least time to saving and to repeating together; and never so short an interval that saving costs
/// more than 3.5 % of the time.
///
/// # Sources
///
/// J. W. Young, "A first order approximation to the optimum checkpoint interval", Communications of the ACM 17 (1974). J. T. Daly, "A higher
/// order estimate of the optimum checkpoint interval for restart dumps", Future Generation Computer Systems 22 (2006), which for costs far
/// below the mean time between failures comes to the same.
#[derive(Debug)]
pub struct Schedule {
    steps: Option<u64>,
    interval: Option<Duration>,
    automatic: Option<Automatic>,
    clock: Clock,
    /// Steps since the last save.
    done: u64,
    /// When that was.
    since: Moment,
}

/// What is measured for the interval.
#[derive(Debug)]
struct Automatic {
    mean_time_between_failures: Duration,
    /// The end of the step before.
    last: Option<Moment>,
    /// How long a step takes, in seconds, when nothing is being saved: the mean of the last some, newer ones weighing more.
    usual: Option<f64>,
    /// The time, in seconds, that the steps of the save being measured took longer than usual.
    longer: Option<f64>,
    /// What the last saves cost the loop, in seconds, newest first.
    costs: Vec<f64>,
}

/// Of the newest figure this share goes into the mean: the last ten or so count.
const WEIGHT: f64 = 0.1;
/// Before anything was measured: the first save comes early, so that there is something to measure.
const FIRST: Duration = Duration::from_secs(10);
/// How many saves are remembered.
const COSTS: usize = 5;
/// As often as this at most, whatever is measured.
const LEAST: Duration = Duration::from_millis(100);

impl Schedule {
    fn new(steps: Option<u64>, interval: Option<Duration>, automatic: Option<Automatic>) -> Self {
        let clock = Clock::start();
        Self {
            steps,
            interval,
            automatic,
            since: clock.now(),
            clock,
            done: 0,
        }
    }

    /// Every `steps` steps, at least 1.
    pub fn every_steps(steps: u64) -> Self {
        Self::new(Some(steps.max(1)), None, None)
    }

    /// At the first step that ends an interval after the last save or later.
    pub fn every_interval(interval: Duration) -> Self {
        Self::new(None, Some(interval), None)
    }

    /// Every `steps` steps, and at the latest an interval after the last save.
    pub fn every(steps: u64, interval: Duration) -> Self {
        Self::new(Some(steps.max(1)), Some(interval), None)
    }

    /// As often as is best where the machine fails once in so much time: an hour on a machine that may be reclaimed, a month on one's own.
    /// Its steps must be told apart by [`due_while`](Self::due_while).
    pub fn automatic(mean_time_between_failures: Duration) -> Self {
        let automatic = Automatic {
            mean_time_between_failures,
            last: None,
            usual: None,
            longer: None,
            costs: Vec::new(),
        };
        Self::new(None, None, Some(automatic))
    }

    /// Whether to save at the end of this step, for a loop that waits for its saves.
    pub fn due(&mut self) -> bool {
        self.at_end_of_step(|| false)
    }

    /// Whether to save at the end of this step, for a loop whose saves go on in the background of `store`: steps during which one is in
    /// flight are not taken for usual ones.
    pub fn due_while(&mut self, store: &CheckpointStore) -> bool {
        self.at_end_of_step(|| store.is_saving())
    }

    /// The interval now: what was set, or what was found best so far.
    pub fn interval(&self) -> Option<Duration> {
        match &self.automatic {
            Some(automatic) => Some(automatic.interval()),
            None => self.interval,
        }
    }

    /// What a save was found to cost the loop; `None` before the first one, and where nothing is measured.
    pub fn cost(&self) -> Option<Duration> {
        let cost = self.automatic.as_ref()?.cost()?;
        Some(Duration::from_secs_f64(cost))
    }

    fn at_end_of_step(&mut self, is_saving: impl FnOnce() -> bool) -> bool {
        self.done += 1;
        let by_steps = self.steps.is_some_and(|steps| self.done >= steps);
        // The clock is read only where time matters.
        if self.interval.is_none() && self.automatic.is_none() {
            if by_steps {
                self.done = 0;
            }
            return by_steps;
        }
        let now = self.clock.now();
        if let Some(automatic) = &mut self.automatic {
            automatic.step_ended(now, is_saving());
        }
        if self.automatic.as_ref().is_some_and(Automatic::is_measuring) {
            return false;
        }
        let interval = self.interval();
        let is_due = by_steps || interval.is_some_and(|interval| now.since(self.since) >= interval);
        if is_due {
            self.done = 0;
            self.since = now;
            if let Some(automatic) = &mut self.automatic {
                automatic.save_begins();
            }
        }
        is_due
    }
}

impl Automatic {
    fn step_ended(&mut self, now: Moment, is_saving: bool) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let took = now.since(last).as_secs_f64();
        match (&mut self.longer, self.usual) {
            (Some(longer), Some(usual)) => {
                *longer += took - usual;
                if !is_saving {
                    self.costs.insert(0, longer.max(0.0));
                    self.costs.truncate(COSTS);
                    self.longer = None;
                }
            }
            // The save before the first usual step cannot be compared with anything.
            (Some(_), None) if is_saving => {}
            (longer, None) => {
                *longer = None;
                self.usual = Some(took);
            }
            (None, Some(usual)) if !is_saving => {
                self.usual = Some(usual + (took - usual) * WEIGHT);
            }
            (None, Some(_)) => {}
        }
    }

    fn save_begins(&mut self) {
        self.longer = Some(0.0);
    }

    /// Whether a save has begun and is not over: another one would only wait for it.
    fn is_measuring(&self) -> bool {
        self.longer.is_some()
    }

    /// The middle one of the last costs: one save beside which the machine slept says nothing.
    fn cost(&self) -> Option<f64> {
        let mut costs = self.costs.clone();
        costs.sort_unstable_by(f64::total_cmp);
        costs.get(costs.len().saturating_sub(1) / 2).copied()
    }

    fn interval(&self) -> Duration {
        let Some(cost) = self.cost() else {
            return FIRST;
        };
        let best = (2.0 * cost * self.mean_time_between_failures.as_secs_f64()).sqrt();
        let least = (cost / MAX_OVERHEAD).max(LEAST.as_secs_f64());
        Duration::try_from_secs_f64(best.max(least)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of a second each, of which those of a save take longer.
    fn automatic(hours: u64, extra: f64) -> Automatic {
        let mut automatic = Automatic {
            mean_time_between_failures: Duration::from_secs(3600 * hours),
            last: None,
            usual: None,
            longer: None,
            costs: Vec::new(),
        };
        let mut now = Moment::default();
        let mut step = |automatic: &mut Automatic, seconds: f64, is_saving| {
            now = now + Duration::from_secs_f64(seconds);
            automatic.step_ended(now, is_saving);
        };
        for _ in 0..20 {
            step(&mut automatic, 1.0, false);
        }
        automatic.save_begins();
        step(&mut automatic, 1.0 + extra / 2.0, true);
        step(&mut automatic, 1.0 + extra / 2.0, false);
        step(&mut automatic, 1.0, false);
        automatic
    }

    #[test]
    fn the_cost_is_the_slowdown_of_the_loop_and_the_interval_is_youngs() {
        let measured = automatic(1, 0.5);
        assert!(
            (measured.cost().unwrap() - 0.5).abs() < 1e-6,
            "{measured:?}"
        );
        let interval = measured.interval().as_secs_f64();
        assert!(
            (interval - (2.0 * 0.5 * 3600.0_f64).sqrt()).abs() < 0.01,
            "{interval}"
        );
    }

    #[test]
    fn saving_never_costs_more_than_its_share() {
        let measured = automatic(0, 0.7);
        let interval = measured.interval().as_secs_f64();
        assert!((interval - 0.7 / MAX_OVERHEAD).abs() < 0.01, "{interval}");
        assert_eq!(automatic(0, 0.0).interval(), LEAST);
    }

    #[test]
    fn before_anything_is_measured_the_first_save_comes_early() {
        let schedule = Schedule::automatic(Duration::from_secs(1_000_000));
        assert_eq!(schedule.interval(), Some(FIRST));
        assert_eq!(schedule.cost(), None);
    }

    #[test]
    fn steps_and_time_each_make_a_save_due_and_both_begin_anew_with_it() {
        let mut steps = Schedule::every_steps(3);
        let due: Vec<bool> = (0..7).map(|_| steps.due()).collect();
        assert_eq!(due, [false, false, true, false, false, true, false]);
        let mut always = Schedule::every_interval(Duration::ZERO);
        assert!(always.due() && always.due());
        let mut never = Schedule::every_interval(Duration::MAX);
        assert!(!(0..1000).any(|_| never.due()));
        let mut both = Schedule::every(1000, Duration::ZERO);
        assert!(both.due());
        let mut both = Schedule::every(2, Duration::MAX);
        assert!(!both.due() && both.due() && !both.due());
    }

    #[test]
    fn no_save_is_due_while_one_is_in_flight_and_one_outlier_changes_nothing() {
        let mut schedule = Schedule::automatic(Duration::from_secs(3600));
        let automatic = schedule.automatic.as_mut().expect("made so");
        automatic.usual = Some(0.001);
        automatic.save_begins();
        schedule.since = Moment::default();
        for _ in 0..100 {
            assert!(!schedule.at_end_of_step(|| true));
        }
        let mut measured = automatic_of(&[0.5, 0.6, 1200.0]);
        assert!((measured.cost().unwrap() - 0.6).abs() < 1e-9);
        measured.costs.insert(0, 0.55);
        assert!(
            measured.interval() < Duration::from_secs(120),
            "{measured:?}"
        );
    }

    fn automatic_of(costs: &[f64]) -> Automatic {
        Automatic {
            mean_time_between_failures: Duration::from_secs(3600),
            last: None,
            usual: Some(1.0),
            longer: None,
            costs: costs.to_vec(),
        }
    }
}
