//! From working time to places on the page, and from numbers to words.

use std::time::Duration;

use safepoint::clock::rfc_3339;
use safepoint::job::history::PastRun;

use crate::time::show_duration;

/// How much of the width the places between runs take, each and together, in percent.
const GAP: f64 = 1.2;
const ALL_GAPS: f64 = 20.0;
/// How many runs are drawn at most, the last ones.
pub(super) const DRAWN_RUNS: usize = 300;

/// Where the drawn runs are, in percent of the width.
pub(super) struct Scale<'a> {
    pub(super) runs: &'a [PastRun],
    gap: f64,
    begin_ms: u64,
    per_ms: f64,
}

impl<'a> Scale<'a> {
    pub(super) fn over(runs: &'a [PastRun]) -> Self {
        let runs = &runs[runs.len().saturating_sub(DRAWN_RUNS)..];
        let gaps = number(runs.len().saturating_sub(1) as u64);
        let gap = GAP.min(ALL_GAPS / gaps.max(1.0));
        let begin_ms = runs.first().map_or(0, |run| run.from_ms);
        let worked: u64 = runs.iter().map(PastRun::lasted_ms).sum();
        Self {
            runs,
            gap,
            begin_ms,
            per_ms: (100.0 - gap * gaps) / number(worked.max(1)),
        }
    }

    /// The place of a moment of working time that is in the drawn run with this place in the list.
    pub(super) fn at(&self, place: usize, working_ms: u64) -> f64 {
        let since = working_ms.saturating_sub(self.begin_ms);
        (number(since) * self.per_ms + self.gap * number(place as u64)).clamp(0.0, 100.0)
    }

    /// The place in the list of a run, if it is drawn.
    pub(super) fn place(&self, run: u32) -> Option<usize> {
        self.runs.binary_search_by_key(&run, |run| run.run).ok()
    }

    /// Where a run begins and ends.
    pub(super) fn of_run(&self, place: usize) -> (f64, f64) {
        let run = &self.runs[place];
        (
            self.at(place, run.from_ms),
            self.at(place, run.from_ms + run.lasted_ms()),
        )
    }

    /// The middle of the gap behind a run, or its end if it is the last.
    pub(super) fn behind(&self, place: usize) -> f64 {
        let (_, end) = self.of_run(place);
        if place + 1 == self.runs.len() {
            end
        } else {
            end + self.gap / 2.0
        }
    }

    /// Moments of working time to write under a chart, and where they are: at most seven.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        const STEPS: [u64; 22] = [
            1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000,
            120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000,
        ];
        const DAY: u64 = 86_400_000;
        let Some(last) = self.runs.last() else {
            return Vec::new();
        };
        let worked = last.from_ms + last.lasted_ms() - self.begin_ms;
        let step = STEPS.into_iter().find(|step| worked / step <= 6);
        let step = step.unwrap_or_else(|| (worked / 6).div_ceil(DAY) * DAY);
        let mut ticks = Vec::new();
        let mut place = 0;
        for tick in 0..=worked / step {
            let at = self.begin_ms + tick * step;
            while place + 1 < self.runs.len() && self.runs[place + 1].from_ms <= at {
                place += 1;
            }
            ticks.push((self.at(place, at), round_duration(at)));
        }
        ticks
    }
}

#[expect(clippy::cast_precision_loss, reason = "places on a page")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// A place or a width, short enough for a file.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{share:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}%")
}

/// A duration that is whole in its unit: `30s`, `2h`.
fn round_duration(ms: u64) -> String {
    for (unit, name) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ] {
        if ms >= unit && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    if ms == 0 {
        "0".to_owned()
    } else {
        show_duration(Duration::from_millis(ms))
    }
}

/// A duration in milliseconds, for people.
pub(super) fn ms(duration: u64) -> String {
    show_duration(Duration::from_millis(duration))
}

/// A duration in microseconds, for people.
pub(super) fn us(duration: u64) -> String {
    match duration {
        0..1000 => format!("{duration} µs"),
        1000..10_000 => format!("{:.1}ms", number(duration) / 1000.0),
        10_000..1_000_000 => format!("{}ms", duration / 1000),
        1_000_000..10_000_000 => format!("{:.2}s", number(duration) / 1e6),
        _ => show_duration(Duration::from_micros(duration)),
    }
}

/// A moment, for people: `2026-11-21 14:52:05`.
pub(super) fn moment(at_ms: i64) -> String {
    rfc_3339(at_ms)
        .replace('T', " ")
        .chars()
        .take_while(|letter| *letter != '.')
        .collect()
}

/// A rate of so many a second, for people.
pub(super) fn rate(per_second: f64) -> String {
    if per_second <= 0.0 {
        "0/s".to_owned()
    } else if per_second >= 10.0 {
        format!("{per_second:.0}/s")
    } else if per_second >= 0.1 {
        format!("{per_second:.1}/s")
    } else if per_second * 3600.0 >= 0.1 {
        format!("{:.1}/h", per_second * 3600.0)
    } else {
        format!("{:.1}/d", per_second * 86_400.0)
    }
}

/// A number of things at a time, for people.
pub(super) fn mean(number: f64) -> String {
    let text = format!("{number:.*}", usize::from(number < 10.0));
    text.trim_end_matches(".0").to_owned()
}

/// The next number above that is 1, 2 or 5 times a power of ten.
pub(super) fn nice_above(number: f64) -> f64 {
    if number <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(number.log10().floor());
    let step = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let above = step.into_iter().map(|step| step * power);
    above
        .into_iter()
        .find(|above| *above >= number * 0.98)
        .unwrap_or(number)
}
