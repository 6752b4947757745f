//! Who is connected, and who has to go.
//!
//! A connection takes a seat. There are so many and no more; when all are taken, the one that deserves it least loses it: first who never
//! said anything, then who is between two requests, then who is slow to ask, then who does not read. So a legitimate client gets in however many others
//! hold connections open, as long as it speaks soon after.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::coarse;

/// How long a head may take, from the connection or its first byte on.
const HEAD_LIMIT: Duration = Duration::from_secs(2);
/// How long a connection may stay open between two requests.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// How long somebody may not read what is sent.
const UNREAD_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take in all; each of its parts has a shorter limit.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long what still comes is read when all is said.
const LINGER_LIMIT: Duration = Duration::from_millis(300);
/// How long a new connection has in any case to say something.
const GRACE: Duration = Duration::from_millis(20);
/// How long an answer may take in any case. Short, as somebody else waits for the seat.
const ANSWER_GRACE: Duration = Duration::from_millis(50);

/// What a connection is at. The order is that in which they lose their seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// All is said, and what still comes is thrown away.
    Leaving = 0,
    /// Nothing has come yet.
    Silent = 1,
    /// A request was answered, and no other has begun.
    Idle = 2,
    /// A request has begun.
    Asking = 3,
    /// A request is being answered.
    Answering = 4,
    /// The answer is known, and being sent.
    Sending = 5,
    /// A stream of events.
    Streaming = 6,
}

impl Stage {
    fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Leaving,
            1 => Self::Silent,
            2 => Self::Idle,
            3 => Self::Asking,
            4 => Self::Answering,
            5 => Self::Sending,
            _ => Self::Streaming,
        }
    }

    /// How long nobody loses a seat at this for the sake of others.
    fn grace(self) -> Duration {
        match self {
            Self::Silent => GRACE,
            Self::Answering | Self::Sending => ANSWER_GRACE,
            _ => Duration::ZERO,
        }
    }
}

/// One connection's seat. All on one thread; the atomics are there because a future that may change its thread holds it. Hence relaxed everywhere.
#[derive(Debug)]
pub(super) struct Seat {
    stage: AtomicU8,
    /// Since when it is at that, in milliseconds of the coarse clock.
    since_ms: AtomicU64,
    /// Since when what is sent is not read; 0 if it is.
    unread_since_ms: AtomicU64,
    is_to_go: AtomicBool,
    told: Notify,
}

fn now_ms() -> u64 {
    u64::try_from(coarse().as_millis()).unwrap_or(u64::MAX)
}

impl Seat {
    fn new() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Silent as u8),
            since_ms: AtomicU64::new(now_ms()),
            unread_since_ms: AtomicU64::new(0),
            is_to_go: AtomicBool::new(false),
            told: Notify::new(),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        Stage::from_u8(self.stage.load(Ordering::Relaxed))
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
        self.since_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Bytes came in.
    pub(super) fn heard(&self) {
        if matches!(self.stage(), Stage::Silent | Stage::Idle) {
            self.enter(Stage::Asking);
        }
    }

    /// All that was to be sent is on its way.
    pub(super) fn flushed(&self) {
        if self.stage() == Stage::Sending {
            self.enter(Stage::Idle);
        }
    }

    /// Whether what is sent is being read.
    pub(super) fn is_read(&self, is_read: bool) {
        if is_read {
            self.unread_since_ms.store(0, Ordering::Relaxed);
        } else if self.unread_since_ms.load(Ordering::Relaxed) == 0 {
            self.unread_since_ms
                .store(now_ms().max(1), Ordering::Relaxed);
        }
    }

    /// Waits until the seat is lost.
    pub(super) async fn lost(&self) {
        while !self.is_lost() {
            self.told.notified().await;
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_to_go.load(Ordering::Relaxed)
    }

    fn lose(&self) {
        self.is_to_go.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }

    fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.since_ms.load(Ordering::Relaxed)))
    }

    fn is_late(&self, now_ms: u64) -> bool {
        let age = self.age(now_ms);
        let is_unread = self.unread(now_ms) > UNREAD_LIMIT;
        is_unread
            || match self.stage() {
                Stage::Leaving => age > LINGER_LIMIT,
                Stage::Silent | Stage::Asking => age > HEAD_LIMIT,
                Stage::Idle => age > IDLE_LIMIT,
                Stage::Answering | Stage::Sending => age > ANSWER_LIMIT,
                Stage::Streaming => false,
            }
    }

    fn unread(&self, now_ms: u64) -> Duration {
        match self.unread_since_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(now_ms.saturating_sub(since)),
        }
    }

    /// Who goes first: a lower value.
    fn worth(&self, now_ms: u64) -> (Stage, u64) {
        let stage = self.stage();
        // Who does not read is worth less than who asks slowly.
        let is_unread = self.unread(now_ms) > GRACE;
        let stage = if is_unread {
            stage.min(Stage::Asking)
        } else {
            stage
        };
        (stage, self.since_ms.load(Ordering::Relaxed))
    }
}

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    taken: Mutex<Vec<Arc<Seat>>>,
    most: usize,
    /// Told of the first one.
    came: Notify,
}

/// A seat that is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) seat: Arc<Seat>,
    seats: Arc<Seats>,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self {
            taken: Mutex::new(Vec::with_capacity(most)),
            most,
            came: Notify::new(),
        }
    }

    /// Whether there is room for one more.
    pub(super) fn have_room(&self) -> bool {
        self.taken().len() < self.most
    }

    pub(super) fn take(self: &Arc<Self>) -> Taken {
        let seat = Arc::new(Seat::new());
        let mut taken = self.taken();
        taken.push(Arc::clone(&seat));
        if taken.len() == 1 {
            self.came.notify_one();
        }
        drop(taken);
        Taken {
            seat,
            seats: Arc::clone(self),
        }
    }

    /// Takes the seat of whoever deserves it least, unless all have only just come.
    pub(super) fn make_room(&self) {
        let now = now_ms();
        let taken = self.taken();
        let old = taken
            .iter()
            .filter(|seat| !seat.is_lost() && seat.age(now) >= seat.stage().grace());
        if let Some(seat) = old.min_by_key(|seat| seat.worth(now)) {
            seat.lose();
        }
    }

    /// Waits until somebody has a seat.
    pub(super) async fn are_taken(&self) {
        while self.taken().is_empty() {
            self.came.notified().await;
        }
    }

    /// Takes the seats of all who are late.
    pub(super) fn sweep(&self) {
        let now = now_ms();
        let taken = self.taken();
        taken
            .iter()
            .filter(|seat| seat.is_late(now))
            .for_each(|seat| seat.lose());
    }

    /// Whether an answer is on its way to somebody.
    pub(super) fn are_answering(&self) -> bool {
        self.taken()
            .iter()
            .any(|seat| matches!(seat.stage(), Stage::Answering | Stage::Sending))
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        if let Some(place) = taken.iter().position(|seat| Arc::ptr_eq(seat, &self.seat)) {
            taken.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(seats: &Arc<Seats>, stage: Stage, age: Duration) -> Taken {
        let taken = seats.take();
        taken.seat.enter(stage);
        let age = u64::try_from(age.as_millis()).unwrap();
        taken.seat.since_ms.fetch_sub(age, Ordering::Relaxed);
        taken
    }

    fn is_lost(taken: &Taken) -> bool {
        taken.seat.is_lost()
    }

    #[test]
    fn who_deserves_it_least_loses_the_seat() {
        let seats = Arc::new(Seats::new(5));
        let second = Duration::from_secs(1);
        let streaming = aged(&seats, Stage::Streaming, second * 9);
        let asking = aged(&seats, Stage::Asking, second);
        let idle = aged(&seats, Stage::Idle, second * 2);
        let silent = aged(&seats, Stage::Silent, second);
        let new = aged(&seats, Stage::Silent, Duration::ZERO);
        assert!(!seats.have_room());
        for loser in [&silent, &idle, &asking, &streaming] {
            assert!(!is_lost(loser));
            seats.make_room();
            assert!(is_lost(loser), "{:?}", loser.seat.stage());
        }
        seats.make_room();
        assert!(!is_lost(&new), "it has only just come");
        drop((silent, idle));
        assert!(seats.have_room());
    }

    #[test]
    fn who_is_late_loses_the_seat() {
        let seats = Arc::new(Seats::new(8));
        for (stage, seconds, loses) in [
            (Stage::Leaving, 1, true),
            (Stage::Silent, 1, false),
            (Stage::Silent, 3, true),
            (Stage::Asking, 3, true),
            (Stage::Idle, 3, false),
            (Stage::Idle, 31, true),
            (Stage::Answering, 10, false),
            (Stage::Answering, 21, true),
            (Stage::Streaming, 1000, false),
        ] {
            let taken = aged(&seats, stage, Duration::from_secs(seconds));
            seats.sweep();
            assert_eq!(is_lost(&taken), loses, "{stage:?} {seconds}");
        }
        let deaf = aged(&seats, Stage::Streaming, Duration::from_secs(100));
        let since = now_ms().saturating_sub(6000).max(1);
        deaf.seat.unread_since_ms.store(since, Ordering::Relaxed);
        seats.sweep();
        assert!(is_lost(&deaf));
    }
}
