//! How much was done and how much was in progress, over working time.

use super::longest::{Span, SpanEnd};
use super::past_run::PastRun;

/// About how many buckets there are.
const BUCKETS: u64 = 240;
/// Widths that people count in, in milliseconds; beyond them, whole days.
const WIDTHS: [u64; 23] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000,
    300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 21_600_000, 43_200_000,
];
const DAY: u64 = 86_400_000;

/// Working time in buckets, about 240 of them and at least one for each run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverTime {
    /// How long a bucket is, in milliseconds; the last one of a run may be shorter.
    pub width_ms: u64,
    /// In order.
    pub buckets: Vec<Bucket>,
}

/// A stretch of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The run.
    pub run: u32,
    /// Where it begins in working time, in milliseconds.
    pub from_ms: u64,
    /// How long it is, in milliseconds, at least 1.
    pub lasts_ms: u64,
    /// How many were done in it: attempts, steps or children.
    pub done: u64,
    /// How many failed in it.
    pub failed: u64,
    /// How long those in progress were so in it, together, in microseconds.
    pub busy_us: u64,
}

impl Bucket {
    /// How many were done in a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn done_per_second(&self) -> f64 {
        self.done as f64 * 1000.0 / self.lasts_ms as f64
    }

    /// How many were in progress at a time, on average. Those that a stop or a kill ended are not counted: they left nothing behind.
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    pub fn concurrency(&self) -> f64 {
        self.busy_us as f64 / 1000.0 / self.lasts_ms as f64
    }
}

/// Where a run is.
struct Place {
    run: u32,
    started_at_ms: i64,
    lasts_us: u64,
    first: usize,
    buckets: usize,
}

/// Buckets that are being filled.
pub(super) struct Filling {
    over_time: OverTime,
    places: Vec<Place>,
    /// By how much more spans than in the bucket before fill a bucket wholly: a span costs the same however long it is.
    whole: Vec<i64>,
}

fn width(worked_ms: u64) -> u64 {
    let least = worked_ms.div_ceil(BUCKETS);
    let known = WIDTHS.into_iter().find(|width| *width >= least);
    known.unwrap_or_else(|| least.div_ceil(DAY) * DAY)
}

impl Filling {
    pub(super) fn over(runs: &[PastRun]) -> Self {
        let width_ms = width(runs.iter().map(PastRun::lasted_ms).sum());
        let mut buckets = Vec::new();
        let mut places = Vec::with_capacity(runs.len());
        for run in runs {
            let lasted = run.lasted_ms().max(1);
            let first = buckets.len();
            let mut inside = 0;
            while inside < lasted {
                buckets.push(Bucket {
                    run: run.run,
                    from_ms: run.from_ms + inside,
                    lasts_ms: width_ms.min(lasted - inside),
                    done: 0,
                    failed: 0,
                    busy_us: 0,
                });
                inside += width_ms;
            }
            places.push(Place {
                run: run.run,
                started_at_ms: run.started_at_ms,
                lasts_us: lasted.saturating_mul(1000),
                first,
                buckets: buckets.len() - first,
            });
        }
        Self {
            whole: vec![0; buckets.len() + 1],
            over_time: OverTime { width_ms, buckets },
            places,
        }
    }

    pub(super) fn add(&mut self, span: &Span) {
        let Ok(at) = self
            .places
            .binary_search_by_key(&span.run, |place| place.run)
        else {
            return;
        };
        let place = &self.places[at];
        let width_us = self.over_time.width_ms * 1000;
        let since = span.started_at_ms.saturating_sub(place.started_at_ms);
        let from = u64::try_from(since).unwrap_or(0).saturating_mul(1000);
        // A clock that was set meanwhile may put a span outside of its run.
        let from = from.min(place.lasts_us - 1);
        let to = from.saturating_add(span.duration_us).min(place.lasts_us);
        let bucket = |us: u64| {
            let inside = usize::try_from(us / width_us).unwrap_or(usize::MAX);
            place.first + inside.min(place.buckets - 1)
        };
        let (first, last) = (bucket(from), bucket(to));
        let begin = |bucket: usize| (bucket - place.first) as u64 * width_us;
        let buckets = &mut self.over_time.buckets;
        if first == last {
            buckets[first].busy_us += to - from;
        } else {
            buckets[first].busy_us += begin(first + 1) - from;
            buckets[last].busy_us += to - begin(last);
            self.whole[first + 1] += 1;
            self.whole[last] -= 1;
        }
        match span.end {
            SpanEnd::Done => buckets[last].done += 1,
            SpanEnd::Failed => buckets[last].failed += 1,
            SpanEnd::CutOff => {}
        }
    }

    pub(super) fn summed(mut self) -> OverTime {
        let mut whole = 0;
        for (bucket, more) in self.over_time.buckets.iter_mut().zip(&self.whole) {
            whole += more;
            // Only buckets of the whole width lie between the first and the last one of a span.
            bucket.busy_us += u64::try_from(whole).unwrap_or(0) * bucket.lasts_ms * 1000;
        }
        self.over_time
    }
}

#[cfg(test)]
mod tests {
    use super::super::past_run::Ending;
    use super::*;

    fn run(run: u32, started_at_ms: i64, lasted: i64, from_ms: u64) -> PastRun {
        PastRun {
            run,
            pid: 1,
            host: String::new(),
            version: String::new(),
            started_at_ms,
            ended_at_ms: started_at_ms + lasted,
            is_end_told: true,
            ending: Ending::Completed,
            reason: None,
            done_before: 0,
            done_after: None,
            from_ms,
        }
    }

    fn span(run: u32, started_at_ms: i64, duration_us: u64, end: SpanEnd) -> Span {
        Span {
            index: None,
            name: None,
            attempt: 1,
            run,
            started_at_ms,
            duration_us,
            end,
        }
    }

    #[test]
    fn spans_fill_the_buckets_they_cover_and_none_of_another_run() {
        // 240 buckets of 10 ms would be 2.4 s; these two runs take 105 ms.
        let runs = [run(1, 1000, 95, 0), run(4, 90_000, 10, 95)];
        let mut filling = Filling::over(&runs);
        filling.add(&span(1, 1005, 50_000, SpanEnd::Done)); // 5 to 55 ms
        filling.add(&span(1, 1052, 2_000, SpanEnd::Failed)); // 52 to 54 ms
        filling.add(&span(4, 90_001, 99_000_000, SpanEnd::CutOff)); // to the end of its run
        filling.add(&span(3, 1000, 1000, SpanEnd::Done)); // of no run
        let over_time = filling.summed();
        assert_eq!(over_time.width_ms, 10);
        let busy: Vec<u64> = over_time.buckets.iter().map(|b| b.busy_us / 1000).collect();
        assert_eq!(busy, [5, 10, 10, 10, 10, 7, 0, 0, 0, 0, 9]);
        let ended: Vec<(u64, u64)> = over_time
            .buckets
            .iter()
            .map(|b| (b.done, b.failed))
            .collect();
        assert_eq!(ended[5], (1, 1));
        assert_eq!(
            ended
                .iter()
                .map(|(done, failed)| done + failed)
                .sum::<u64>(),
            2
        );
        assert_eq!(over_time.buckets[9].lasts_ms, 5);
        assert_eq!(over_time.buckets[10].run, 4);
        assert!((over_time.buckets[1].concurrency() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn buckets_stay_few_however_long_a_job_is() {
        for worked in [0, 1, 50_000, 86_400_000, 4_000_000_000, i64::MAX / 4] {
            let filling = Filling::over(&[run(1, 0, worked, 0)]);
            assert!(
                (1..=240).contains(&filling.over_time.buckets.len()),
                "{worked}"
            );
        }
    }
}
