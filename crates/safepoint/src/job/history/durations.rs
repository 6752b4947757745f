//! How long things took, in a histogram whose steps grow with the time: as exact for microseconds as for days.

/// The bars of one doubling. A quantile is at most 1/32 above the true one.
const PER_DOUBLING: u64 = 32;
const SHIFT: u32 = PER_DOUBLING.ilog2();
/// Below this, every microsecond has a bar of its own.
const LINEAR: u64 = 2 * PER_DOUBLING;

/// Durations that were counted, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum_us: u64,
    /// The shortest; 0 if there is none.
    pub shortest_us: u64,
    /// The longest; 0 if there is none.
    pub longest_us: u64,
    bars: Vec<u64>,
}

/// So many durations from `from_us` on and below `to_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// In microseconds.
    pub from_us: u64,
    /// In microseconds.
    pub to_us: u64,
    /// How many.
    pub count: u64,
}

fn place(duration_us: u64) -> usize {
    if duration_us < LINEAR {
        return usize::try_from(duration_us).unwrap_or(usize::MAX);
    }
    let doubling = duration_us.ilog2() - SHIFT;
    let inside = duration_us >> doubling; // from PER_DOUBLING to LINEAR - 1
    usize::try_from(u64::from(doubling) * PER_DOUBLING + inside).unwrap_or(usize::MAX)
}

fn begin(place: usize) -> u64 {
    let place = place as u64;
    if place < LINEAR {
        return place;
    }
    let doubling = place / PER_DOUBLING - 1;
    let inside = place % PER_DOUBLING + PER_DOUBLING;
    // The end of the last bar is the first number that does not fit.
    u64::try_from(u128::from(inside) << doubling).unwrap_or(u64::MAX)
}

impl Durations {
    /// Counts one.
    pub fn add(&mut self, duration_us: u64) {
        let place = place(duration_us);
        if self.bars.len() <= place {
            self.bars.resize(place + 1, 0);
        }
        self.bars[place] += 1;
        self.shortest_us = if self.count == 0 {
            duration_us
        } else {
            self.shortest_us.min(duration_us)
        };
        self.longest_us = self.longest_us.max(duration_us);
        self.sum_us = self.sum_us.saturating_add(duration_us);
        self.count += 1;
    }

    /// The mean, in microseconds; none if there is nothing.
    pub fn mean_us(&self) -> Option<u64> {
        self.sum_us.checked_div(self.count)
    }

    /// The duration that `share` (0 to 1) of all do not exceed, in microseconds, to 1/32 of it; none if there is nothing.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank; beyond 2^53 durations it is not exact"
    )]
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.bars.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        let last = reached.map_or(self.longest_us, |place| begin(place + 1) - 1);
        Some(last.clamp(self.shortest_us, self.longest_us))
    }

    /// The histogram from the shortest to the longest, in at most `limit` bars of which each is wider than the one before by the same
    /// factor (but where they are a microsecond wide). Bars that are empty are there too.
    pub fn bars(&self, limit: usize) -> Vec<Bar> {
        Self::bars_of(&[self], limit)
            .into_iter()
            .map(|(from_us, to_us, counts)| Bar {
                from_us,
                to_us,
                count: counts[0],
            })
            .collect()
    }

    /// The same for several, in the same bars: from, to, and the count of each.
    pub fn bars_of(all: &[&Self], limit: usize) -> Vec<(u64, u64, Vec<u64>)> {
        let there = || all.iter().filter(|durations| durations.count > 0);
        let (Some(first), Some(last)) = (
            there().map(|durations| place(durations.shortest_us)).min(),
            there().map(|durations| place(durations.longest_us)).max(),
        ) else {
            return Vec::new();
        };
        let mut together = 1;
        while last / together - first / together + 1 > limit.max(1) {
            together *= 2;
        }
        (first / together..=last / together)
            .map(|bar| {
                let places = bar * together..(bar + 1) * together;
                let counts = all.iter().map(|durations| {
                    let counts = durations.bars.iter();
                    counts.skip(places.start).take(together).sum()
                });
                (begin(places.start), begin(places.end), counts.collect())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_the_bar_that_holds_it() {
        let edges = (0..64).flat_map(|power| {
            let edge = 1_u64 << power;
            [edge - 1, edge, edge + 1, edge + edge / 3]
        });
        for duration in edges.chain([u64::MAX]) {
            let place = place(duration);
            assert!(begin(place) <= duration, "{duration}");
            assert!(
                duration < begin(place + 1) || duration == u64::MAX,
                "{duration}"
            );
            assert!(begin(place + 1) - begin(place) <= (duration / PER_DOUBLING).max(1));
        }
    }

    #[test]
    fn quantiles_are_exact_to_a_thirty_second() {
        let mut durations = Durations::default();
        assert_eq!(
            (durations.quantile_us(0.5), durations.mean_us()),
            (None, None)
        );
        for duration in 1..=10_000 {
            durations.add(duration);
        }
        for (share, truth) in [
            (0.0, 1),
            (0.5, 5000),
            (0.9, 9000),
            (0.99, 9900),
            (1.0, 10_000),
        ] {
            let told = durations.quantile_us(share).expect("there are some");
            assert!(
                told >= truth && told <= truth + truth / 32,
                "{share}: {told}"
            );
        }
        assert_eq!(durations.mean_us(), Some(5000));
    }

    #[test]
    fn bars_are_as_few_as_asked_for_and_hold_everything() {
        let (mut quick, mut slow) = (Durations::default(), Durations::default());
        for number in 0..1000 {
            quick.add(900 + number % 100);
            slow.add(1_000_000 * (number % 7 + 1));
        }
        for limit in [1, 2, 7, 40] {
            let bars = Durations::bars_of(&[&quick, &slow, &Durations::default()], limit);
            assert!(bars.len() <= limit, "{limit}");
            assert!(bars.windows(2).all(|pair| pair[0].1 == pair[1].0));
            let sum = |of: usize| bars.iter().map(|(_, _, counts)| counts[of]).sum::<u64>();
            assert_eq!((sum(0), sum(1), sum(2)), (1000, 1000, 0));
        }
        assert!(quick.bars(40).len() > 5, "a narrow range is not one bar");
        assert_eq!(Durations::default().bars(40), []);
    }
}
