//! Which generations stay.

use super::metadata::{Generation, Metadata};

/// What pruning never goes below: the newest good generation, and one to fall back to.
pub(super) const FLOOR: usize = 2;

/// Which generations of a state stay when another one was saved. Whatever any rule keeps stays.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    newest: usize,
    every: Option<u64>,
    best: Option<Best>,
    bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Best {
    metric: String,
    smallest: bool,
    count: usize,
}

impl Default for Retention {
    /// The newest 20.
    fn default() -> Self {
        Self::newest(20)
    }
}

impl Retention {
    /// Keeps the newest `count`, at least 2.
    pub fn newest(count: usize) -> Self {
        Self {
            newest: count.max(FLOOR),
            every: None,
            best: None,
            bytes: None,
        }
    }

    /// Keeps all.
    pub fn all() -> Self {
        Self::newest(usize::MAX)
    }

    /// Keeps each generation whose number is a multiple of `every` as well; 0 keeps none.
    pub fn keep_every(mut self, every: u64) -> Self {
        self.every = (every > 0).then_some(every);
        self
    }

    /// Keeps the `count` generations with the smallest value of a metric, such as the loss, as well.
    pub fn keep_smallest(mut self, metric: impl Into<String>, count: usize) -> Self {
        self.best = Some(Best {
            metric: metric.into(),
            smallest: true,
            count,
        });
        self
    }

    /// Keeps the `count` generations with the largest value of a metric, such as the accuracy, as well.
    pub fn keep_best(mut self, metric: impl Into<String>, count: usize) -> Self {
        self.best = Some(Best {
            metric: metric.into(),
            smallest: false,
            count,
        });
        self
    }

    /// Keeps at most so many bytes in files, oldest pruned first, whatever the other rules keep; pinned ones and the newest two stay.
    pub fn at_most_bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// The metric that has to be known of each generation.
    pub(super) fn metric(&self) -> Option<&str> {
        self.best.as_ref().map(|best| best.metric.as_str())
    }

    /// The generations of `kept` (in ascending order) that go.
    pub(super) fn condemn(&self, kept: &[Kept]) -> Vec<Generation> {
        let floor = kept.len().saturating_sub(FLOOR);
        let newest = kept.len().saturating_sub(self.newest);
        let mut stays: Vec<bool> = kept
            .iter()
            .enumerate()
            .map(|(place, file)| {
                place >= newest
                    || file.pinned
                    || self
                        .every
                        .is_some_and(|every| file.generation.0 % every == 0)
            })
            .collect();
        if let Some(best) = &self.best {
            let mut ranked: Vec<(usize, f64)> = kept
                .iter()
                .enumerate()
                .filter_map(|(place, file)| Some((place, file.metric?)))
                .collect();
            // Of equals the newer one is better.
            ranked.sort_by(|(place, value), (other_place, other)| {
                let order = if best.smallest {
                    value.total_cmp(other)
                } else {
                    other.total_cmp(value)
                };
                order.then(other_place.cmp(place))
            });
            for (place, _) in ranked.into_iter().take(best.count) {
                stays[place] = true;
            }
        }
        if let Some(limit) = self.bytes {
            let staying = |stays: &[bool]| -> u64 {
                kept.iter()
                    .zip(stays)
                    .filter(|(_, stays)| **stays)
                    .map(|(file, _)| file.bytes)
                    .sum()
            };
            let mut total = staying(&stays);
            for place in 0..floor {
                if total <= limit {
                    break;
                }
                if stays[place] && !kept[place].pinned {
                    stays[place] = false;
                    total -= kept[place].bytes;
                }
            }
        }
        let goes = kept.iter().zip(&stays).filter(|(_, stays)| !**stays);
        goes.map(|(file, _)| file.generation).collect()
    }
}

/// What retention has to know of a generation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kept {
    pub(super) generation: Generation,
    pub(super) bytes: u64,
    pub(super) pinned: bool,
    pub(super) metric: Option<f64>,
}

impl Kept {
    pub(super) fn of(metadata: &Metadata, bytes: u64, retention: &Retention) -> Self {
        Self {
            generation: metadata.generation,
            bytes,
            pinned: metadata.details.pinned,
            metric: retention
                .metric()
                .and_then(|metric| metadata.details.metrics.get(metric).copied()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(metrics: &[f64]) -> Vec<Kept> {
        (1..)
            .zip(metrics)
            .map(|(number, metric)| Kept {
                generation: Generation(number),
                bytes: 10,
                pinned: number == 1,
                metric: Some(*metric),
            })
            .collect()
    }

    fn goes(retention: &Retention, kept: &[Kept]) -> Vec<u64> {
        let goes = retention.condemn(kept);
        goes.iter().map(|generation| generation.0).collect()
    }

    #[test]
    fn each_rule_keeps_what_it_says() {
        let files = kept(&[5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 8.0, 7.0]);
        assert_eq!(goes(&Retention::newest(3), &files), [2, 3, 4, 5]);
        assert_eq!(goes(&Retention::newest(0), &files), [2, 3, 4, 5, 6]);
        assert_eq!(goes(&Retention::all(), &files), [0_u64; 0]);
        assert_eq!(goes(&Retention::newest(2).keep_every(3), &files), [2, 4, 5]);
        assert_eq!(
            goes(&Retention::newest(2).keep_smallest("loss", 2), &files),
            [3, 5, 6]
        );
        assert_eq!(
            goes(&Retention::newest(2).keep_best("loss", 1), &files),
            [2, 3, 4, 5]
        );
        assert_eq!(
            goes(&Retention::all().at_most_bytes(45), &files),
            [2, 3, 4, 5]
        );
    }

    proptest! {
        #[test]
        fn the_newest_two_and_pinned_ones_always_stay(
            metrics in proptest::collection::vec(0.0..9.0_f64, 0..30),
            newest in 0_usize..10, every in 0_u64..5, best in 0_usize..5, limit in 0_u64..200,
        ) {
            let files = kept(&metrics);
            let retention = Retention::newest(newest).keep_every(every).keep_smallest("x", best).at_most_bytes(limit);
            let goes = goes(&retention, &files);
            let newest_two = (files.len() as u64).saturating_sub(1);
            prop_assert!(goes.iter().all(|number| *number < newest_two && *number != 1));
        }
    }
}
