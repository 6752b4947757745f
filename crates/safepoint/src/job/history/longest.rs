//! The longest of many, in little memory.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpanEnd {
    /// It did what it was for.
    Done,
    /// It failed.
    Failed,
    /// Nobody saw it end: it is in progress, or ended with its run.
    CutOff,
}

impl SpanEnd {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::CutOff => "cut_off",
        }
    }
}

/// An attempt, a step or a child, with its beginning and its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The index of an attempt's item.
    pub index: Option<u64>,
    /// The key of an attempt's item, if that is not the index; the name of a step.
    pub name: Option<String>,
    /// The number of the attempt, or of the start of a child, from 1.
    pub attempt: u32,
    /// The run in which it was.
    pub run: u32,
    /// When it began, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub end: SpanEnd,
}

impl Span {
    fn length(&self) -> (u64, Reverse<i64>, Option<u64>) {
        (self.duration_us, Reverse(self.started_at_ms), self.index)
    }
}

/// In order of length.
struct ByLength(Span);

impl Ord for ByLength {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.length().cmp(&other.0.length())
    }
}

impl PartialOrd for ByLength {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByLength {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByLength {}

/// The longest spans of all that were offered.
pub(super) struct Longest {
    limit: usize,
    total: u64,
    /// The shortest on top, as the one to go.
    kept: BinaryHeap<Reverse<ByLength>>,
}

impl Longest {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            total: 0,
            kept: BinaryHeap::with_capacity(limit),
        }
    }

    pub(super) fn offer(&mut self, span: &Span) {
        self.total += 1;
        if self.kept.len() < self.limit {
            self.kept.push(Reverse(ByLength(span.clone())));
        } else if let Some(mut shortest) = self.kept.peek_mut()
            && shortest.0.0.length() < span.length()
        {
            *shortest = Reverse(ByLength(span.clone()));
        }
    }

    /// How many were offered.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn slowest_first(self) -> Vec<Span> {
        let sorted = self.kept.into_sorted_vec();
        sorted
            .into_iter()
            .map(|Reverse(ByLength(span))| span)
            .collect()
    }

    pub(super) fn by_start(self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.slowest_first();
        spans.sort_by_key(|span| (span.started_at_ms, span.run, span.index));
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(index: u64, duration_us: u64) -> Span {
        Span {
            index: Some(index),
            name: None,
            attempt: 1,
            run: 1,
            started_at_ms: 1000 - index.cast_signed(),
            duration_us,
            end: SpanEnd::Done,
        }
    }

    #[test]
    fn the_longest_are_kept_and_all_are_counted() {
        let mut longest = Longest::new(3);
        for (index, duration) in [5, 9, 1, 7, 3, 8].into_iter().enumerate() {
            longest.offer(&span(index as u64, duration));
        }
        assert_eq!(longest.total(), 6);
        let lengths: Vec<u64> = longest
            .slowest_first()
            .iter()
            .map(|span| span.duration_us)
            .collect();
        assert_eq!(lengths, [9, 8, 7]);
    }

    #[test]
    fn what_is_kept_comes_in_the_order_of_its_beginning() {
        let mut longest = Longest::new(2);
        for index in 0..4 {
            longest.offer(&span(index, 10 + index));
        }
        let indexes: Vec<Option<u64>> = longest.by_start().iter().map(|span| span.index).collect();
        assert_eq!(indexes, [Some(3), Some(2)]);
    }
}
