//! Several ways in turn, round after round, so that all of them see the same weather.

use std::time::{Duration, Instant};

/// The times of one way, one for each round.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }

    /// The median over rounds of this way's time divided by the other's of the same round.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        let pairs = self.0.iter().zip(&other.0);
        let mut ratios: Vec<f64> = pairs
            .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64())
            .collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

/// Lets each way take its time once a round; nobody always comes first.
pub(crate) fn in_turns<const N: usize>(
    rounds: usize,
    ways: &mut [&mut dyn FnMut() -> Duration; N],
) -> [Times; N] {
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    for round in 0..rounds {
        for turn in 0..N {
            let way = (turn + round) % N;
            times[way].push((ways[way])());
        }
    }
    times.map(Times)
}

/// How long `work` takes.
pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}
