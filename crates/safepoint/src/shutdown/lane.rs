//! The units that one thread has open: slots that only this thread writes, and anybody may read.
//!
//! Invariants:
//!
//! 1. Only the lane's thread writes to it, so its counters need no read-modify-write. A thread that has ended hands its lane to a later one
//!    through a lock (`thread_local`'s), which orders the two.
//! 2. A unit is entered by the store of its bit, then [`light`], then the load of the phase. Whoever stops stores the phase, then
//!    [`heavy`], then loads the bits. So a unit is refused, or it is seen; never neither.
//! 3. A slot's words change only while its version is odd. A reader that finds the same even version before and after has read one
//!    unit's name and time.

use std::sync::atomic::Ordering;
use std::sync::{Mutex as StdMutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use super::Phase;
use super::barrier::light;
use super::sync::{AtomicU8, AtomicU64, fence};

/// Units of one thread that are named at a time; those nested deeper count, but have no name.
pub(super) const SLOTS: usize = if cfg!(safepoint_loom) { 1 } else { 8 };

/// Bytes of a name that are kept.
pub(super) const NAME_BYTES: usize = WORDS * 8;

const WORDS: usize = 5;

/// One unit of [`Lane::open`] beyond the named slots.
const BEYOND: u64 = 1 << 16;

const NAMED: u64 = BEYOND - 1;

#[repr(align(128))]
pub(super) struct Lane {
    /// A bit for each slot in use, and above them the number of units without one.
    open: AtomicU64,
    committed: AtomicU64,
    rolled_back: AtomicU64,
    refused: AtomicU64,
    /// The serial number of the thread whose name is in `owner`.
    serial: AtomicU64,
    owner: StdMutex<Option<Thread>>,
    slots: [Slot; SLOTS],
}

#[derive(Default)]
struct Slot {
    version: AtomicU64,
    /// On the coarse clock, in nanoseconds.
    started: AtomicU64,
    length: AtomicU64,
    name: [AtomicU64; WORDS],
}

/// Where in its lane a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u8);

/// A unit read from a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) name: String,
    /// On the coarse clock; nothing for a unit without a slot.
    pub(super) started: Option<Duration>,
}

/// How many units of a lane ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) committed: u64,
    pub(super) rolled_back: u64,
    pub(super) refused: u64,
}

impl Ended {
    pub(super) fn add(&mut self, other: Self) {
        self.committed += other.committed;
        self.rolled_back += other.rolled_back;
        self.refused += other.refused;
    }
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            open: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            rolled_back: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            serial: AtomicU64::new(0),
            owner: StdMutex::new(None),
            slots: std::array::from_fn(|_| Slot::default()),
        }
    }

    /// Enters a unit, unless `phase` is beyond Running. `now` is on the coarse clock, in nanoseconds.
    #[inline]
    pub(super) fn enter(&self, name: &str, now: u64, phase: &AtomicU8) -> Option<Place> {
        // Relaxed here and below: invariant 1.
        let open = self.open.load(Ordering::Relaxed);
        let index = (!open).trailing_zeros() as usize;
        let (place, entered) = match self.slots.get(index) {
            Some(slot) => {
                slot.fill(name, now);
                (index, open | 1 << index)
            }
            None => (SLOTS, open + BEYOND),
        };
        // Release: who sees the bit sees the slot.
        self.open.store(entered, Ordering::Release);
        light();
        if phase.load(Ordering::Relaxed) != Phase::Running as u8 {
            self.open.store(open, Ordering::Release);
            add(&self.refused);
            return None;
        }
        Some(Place(u8::try_from(place).unwrap_or(u8::MAX)))
    }

    /// Leaves a unit. The caller looks at the phase afterwards, behind a [`light`] that is part of this.
    #[inline]
    pub(super) fn leave(&self, place: Place, committed: bool) {
        add(if committed {
            &self.committed
        } else {
            &self.rolled_back
        });
        let open = self.open.load(Ordering::Relaxed);
        let left = if usize::from(place.0) < SLOTS {
            open & !(1 << place.0)
        } else {
            open - BEYOND
        };
        // Release: what was done in the unit comes before its end, for whoever sees the end.
        self.open.store(left, Ordering::Release);
        light();
    }

    /// Whether a unit is open. After [`heavy`](super::barrier::heavy), none is missed that was not refused.
    pub(super) fn is_open(&self) -> bool {
        // Acquire: pairs with the release in `leave`.
        self.open.load(Ordering::Acquire) != 0
    }

    /// The unit at `place`, read by its own thread.
    pub(super) fn seen_at(&self, place: Place) -> Seen {
        let slot = self.slots.get(usize::from(place.0));
        slot.and_then(Slot::read).unwrap_or_else(Seen::unnamed)
    }

    /// All units open now.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let open = self.open.load(Ordering::Acquire);
        let mut seen = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if open & (1 << index) != 0 {
                // A slot that changes under the eyes is of a unit that begins or ends right now: it is not listed.
                seen.extend(slot.read());
            }
        }
        seen.extend((0..(open & !NAMED) / BEYOND).map(|_| Seen::unnamed()));
        seen
    }

    pub(super) fn ended(&self) -> Ended {
        Ended {
            committed: self.committed.load(Ordering::Relaxed),
            rolled_back: self.rolled_back.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Makes the calling thread the lane's, if it is not yet.
    #[inline]
    pub(super) fn adopt(&self, serial: u64) {
        if self.serial.load(Ordering::Relaxed) != serial {
            self.adopt_new(serial);
        }
    }

    #[cold]
    fn adopt_new(&self, serial: u64) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
        self.serial.store(serial, Ordering::Relaxed);
    }

    /// The number of the lane's thread.
    #[inline]
    pub(super) fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    pub(super) fn thread(&self) -> String {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let serial = self.serial.load(Ordering::Relaxed);
        owner
            .as_ref()
            .map_or_else(String::new, |owner| super::thread::name(owner, serial))
    }
}

impl Slot {
    #[inline]
    fn fill(&self, name: &str, now: u64) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        // Release: the odd version comes before the words that change.
        fence(Ordering::Release);
        self.started.store(now, Ordering::Relaxed);
        let bytes = name.as_bytes();
        if bytes.len() > NAME_BYTES {
            self.fill_long(name);
        } else {
            self.fill_name(bytes);
        }
        // Release: the words come before the even version.
        self.version.store(version + 2, Ordering::Release);
    }

    /// Stores at most [`NAME_BYTES`] bytes in words. The last word holds the last eight bytes, though they overlap the word before: that
    /// spares a copy of a length known only at run time.
    #[inline]
    fn fill_name(&self, bytes: &[u8]) {
        self.length.store(bytes.len() as u64, Ordering::Relaxed);
        let Some(last) = bytes.last_chunk::<8>() else {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.name[0].store(u64::from_le_bytes(word), Ordering::Relaxed);
            return;
        };
        let mut rest = bytes;
        let mut words = self.name.iter();
        while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
            if let Some(word) = words.next() {
                word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
            }
            rest = after;
        }
        if let (false, Some(word)) = (rest.is_empty(), words.next()) {
            word.store(u64::from_le_bytes(*last), Ordering::Relaxed);
        }
    }

    #[cold]
    fn fill_long(&self, name: &str) {
        let mut end = NAME_BYTES - '…'.len_utf8();
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let mut short = [0; NAME_BYTES];
        short[..end].copy_from_slice(&name.as_bytes()[..end]);
        let length = end + '…'.encode_utf8(&mut short[end..]).len();
        self.fill_name(&short[..length]);
    }

    fn read(&self) -> Option<Seen> {
        // Acquire: the words are read after this.
        let before = self.version.load(Ordering::Acquire);
        let started = self.started.load(Ordering::Relaxed);
        let length = usize::try_from(self.length.load(Ordering::Relaxed)).unwrap_or(0);
        let words = self
            .name
            .each_ref()
            .map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        // Acquire: the words were read before the version is read again.
        fence(Ordering::Acquire);
        if before % 2 == 1 || self.version.load(Ordering::Relaxed) != before {
            return None;
        }
        let length = length.min(NAME_BYTES);
        let mut bytes = words.concat();
        let tail = length % 8;
        if length > 8 && tail != 0 {
            // The last word overlaps the one before; see `fill_name`.
            let last = words[length / 8];
            bytes[length - 8..length].copy_from_slice(&last);
        }
        bytes.truncate(length);
        Some(Seen {
            name: String::from_utf8_lossy(&bytes).into_owned(),
            started: Some(Duration::from_nanos(started)),
        })
    }
}

impl Seen {
    fn unnamed() -> Self {
        Self {
            name: "(nested too deep to be named)".into(),
            started: None,
        }
    }
}

/// Adds one to a counter that only this thread writes.
#[inline]
fn add(counter: &AtomicU64) {
    // Relaxed: invariant 1; readers take a count as of about now.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn running() -> AtomicU8 {
        AtomicU8::new(Phase::Running as u8)
    }

    proptest! {
        #[test]
        fn a_name_comes_back_whole_or_cut_at_a_character(name in "\\PC{0,60}") {
            let lane = Lane::new();
            let entered = lane.enter(&name, 7, &running());
            let place = entered.expect("running");
            let seen = lane.seen_at(place);
            if name.len() <= NAME_BYTES {
                prop_assert_eq!(&seen.name, &name);
            } else {
                prop_assert!(seen.name.len() <= NAME_BYTES);
                let kept = seen.name.strip_suffix('…').expect("marked as cut");
                prop_assert!(name.starts_with(kept));
            }
            prop_assert_eq!(seen.started, Some(Duration::from_nanos(7)));
        }

        #[test]
        fn units_may_end_in_any_order(order in Just((0..SLOTS + 3).collect::<Vec<_>>()).prop_shuffle()) {
            let lane = Lane::new();
            let phase = running();
            let places: Vec<_> = (0..SLOTS + 3)
                .map(|index| lane.enter(&format!("unit {index}"), 0, &phase).expect("running"))
                .collect();
            prop_assert_eq!(lane.seen().len(), SLOTS + 3);
            for (left, index) in order.iter().enumerate() {
                prop_assert!(lane.is_open());
                lane.leave(places[*index], true);
                prop_assert_eq!(lane.seen().len(), SLOTS + 2 - left);
            }
            prop_assert!(!lane.is_open());
            prop_assert_eq!(lane.ended().committed, places.len() as u64);
        }
    }

    #[test]
    fn a_stopping_phase_refuses_and_leaves_nothing_open() {
        let lane = Lane::new();
        let phase = AtomicU8::new(Phase::Draining as u8);
        assert_eq!(lane.enter("late", 0, &phase), None);
        assert!(!lane.is_open());
        assert_eq!(lane.ended().refused, 1);
    }
}
