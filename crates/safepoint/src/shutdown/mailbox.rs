//! Between the signal handler and everybody else: the handler stores here, others take it out.
//!
//! Invariants:
//!
//! 1. [`deliver`](Mailbox::deliver) is async-signal-safe: atomics, getpid, a clock read and one write(2); no lock, no allocation.
//! 2. The handler raises the root's phase itself, so a check sees the stop before the handler has returned. Whoever asks for more than the
//!    flag absorbs the arrivals first, so nobody sees the flag without its reason.
//! 3. Each arrival is recorded once, in order, under the lock of `untold`; telling others happens outside it, on the keeper's thread.
//!
//! Lock order: `untold`, then the root's links.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ladder::Ladder;
use super::node::{Node, Reached};
use super::{Mode, Phase, Rung, Source, StopRequest};
use crate::bell::Bell;
use crate::clock::coarse;

/// Signals that arrive again within this time count once: a terminal and a wrapper often both pass Ctrl-C on.
pub const REPEAT_WINDOW: Duration = Duration::from_millis(100);

/// How long the keeper may leave a stop signal lying before the handler itself ends the process at the last rung.
const STUCK: Duration = Duration::from_secs(1);

/// One more than the highest signal number on Linux.
pub(super) const SIGNALS: usize = 65;

/// Arrivals that are remembered until they are absorbed.
const KEPT: usize = KEPT_ARRIVALS as usize;

const KEPT_ARRIVALS: u32 = 16;

pub(super) struct Mailbox {
    pub(super) root: Arc<Node>,
    stops: Vec<(i32, Source)>,
    watching: Vec<i32>,
    ladder: Ladder,
    bell: Arc<Bell>,
    /// The process that installed the handler. A forked child shares the bell and must not ring it.
    pid: u32,
    /// A signal has arrived in a forked child.
    forked: AtomicBool,
    /// Stop signals that have arrived, repeats left out.
    count: AtomicU32,
    arrivals: [AtomicI32; KEPT],
    /// When, on the coarse clock in milliseconds, beside each arrival.
    stamps: [AtomicU64; KEPT],
    /// The last arrival of each signal, on the coarse clock in milliseconds; 0 for never.
    last: [AtomicU64; SIGNALS],
    /// Arrivals of watched signals that nobody has looked at.
    watched: [AtomicU32; SIGNALS],
    /// How many stop signals have been absorbed; written under `untold`'s lock.
    consumed: AtomicU32,
    /// What was absorbed and not told yet.
    untold: Mutex<Option<Reached>>,
    /// The signal that is to end the process, 0 for none.
    kill: AtomicI32,
}

/// What the handler is to do after a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// The signal is not one of this mailbox's.
    Nobody,
    Delivered,
    /// Nobody else will: end the process by the signal's default action.
    Default,
}

impl Mailbox {
    pub(super) fn new(
        root: Arc<Node>,
        stops: Vec<(i32, Source)>,
        watching: Vec<i32>,
        ladder: Ladder,
        bell: Arc<Bell>,
    ) -> Self {
        // The first reading looks the kernel's clock function up; that is not for a signal handler to do.
        coarse();
        Self {
            root,
            stops,
            watching,
            ladder,
            bell,
            pid: std::process::id(),
            forked: AtomicBool::new(false),
            count: AtomicU32::new(0),
            arrivals: [const { AtomicI32::new(0) }; KEPT],
            stamps: [const { AtomicU64::new(0) }; KEPT],
            last: [const { AtomicU64::new(0) }; SIGNALS],
            watched: [const { AtomicU32::new(0) }; SIGNALS],
            consumed: AtomicU32::new(0),
            untold: Mutex::new(None),
            kill: AtomicI32::new(0),
        }
    }

    /// The process this mailbox belongs to.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The handler's part; see invariant 1.
    pub(super) fn deliver(&self, signal: i32) -> Verdict {
        let slot = usize::try_from(signal).unwrap_or(SIGNALS);
        let Some(watched) = self.watched.get(slot) else {
            return Verdict::Nobody;
        };
        let here = std::process::id() == self.pid;
        let verdict = if self.stops.iter().any(|(stop, _)| *stop == signal) {
            self.deliver_stop(signal, slot, here)
        } else if self.watching.contains(&signal) {
            if here {
                // Relaxed here and in the rest: the bell's write orders it before the keeper's read.
                watched.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Delivered
        } else {
            return Verdict::Nobody;
        };
        if here {
            self.bell.ring();
        }
        verdict
    }

    fn deliver_stop(&self, signal: i32, slot: usize, here: bool) -> Verdict {
        let now = u64::try_from(coarse().as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let before = self.last[slot].swap(now, Ordering::Relaxed);
        let window = u64::try_from(REPEAT_WINDOW.as_millis()).unwrap_or(u64::MAX);
        if before != 0 && now.saturating_sub(before) < window {
            return Verdict::Delivered;
        }
        let consumed = self.consumed.load(Ordering::Relaxed);
        let Ok(number) = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count.wrapping_sub(consumed) < KEPT_ARRIVALS).then(|| count.wrapping_add(1))
            })
        else {
            // As many lie here already as can be remembered, and nobody looks: this one would do no more than they.
            return self.verdict(self.ladder.rung(KEPT_ARRIVALS), KEPT_ARRIVALS, now);
        };
        let place = number as usize % KEPT;
        self.stamps[place].store(now, Ordering::Relaxed);
        // Release: who takes the arrival sees its stamp.
        self.arrivals[place].store(signal, Ordering::Release);
        let rung = self.ladder.rung(number);
        let phase = match rung {
            Rung::Graceful => Phase::Draining,
            Rung::Immediate | Rung::Kill => Phase::Terminating,
        };
        // Release: who sees the phase and then looks here, behind an acquire fence, finds the arrival.
        self.root.cell().fetch_max(phase as u8, Ordering::Release);
        if !here {
            // A fork has the flag, but no thread that would carry out a further signal.
            let again = self.forked.swap(true, Ordering::Relaxed);
            return if again || rung == Rung::Kill {
                Verdict::Default
            } else {
                Verdict::Delivered
            };
        }
        self.verdict(rung, number, now)
    }

    /// Whether the keeper will see to the last rung, or seems to hang.
    fn verdict(&self, rung: Rung, number: u32, now: u64) -> Verdict {
        let consumed = self.consumed.load(Ordering::Relaxed);
        // 0 when its handler is still on the way to it.
        let oldest = self.stamps[consumed as usize % KEPT].load(Ordering::Relaxed);
        let stuck = u64::try_from(STUCK.as_millis()).unwrap_or(u64::MAX);
        let lies = consumed != number && oldest != 0 && now.saturating_sub(oldest) >= stuck;
        // A kill that was asked for before and is still pending: the keeper hangs in its last act.
        let hangs = self.kill.load(Ordering::Relaxed) != 0;
        if rung == Rung::Kill && (lies || hangs) {
            Verdict::Default
        } else {
            Verdict::Delivered
        }
    }

    /// Records the stop signals that have arrived as requests. The keeper tells everybody of them: what that leads to may be the caller's code, which
    /// a mere question does not run.
    pub(super) fn absorb(&self) {
        // Acquire: pairs with the release of the phase; see `deliver_stop`.
        fence(Ordering::Acquire);
        // Relaxed: a signal that arrives now is absorbed at the next look; the bell has been rung for it.
        if self.consumed.load(Ordering::Relaxed) == self.count.load(Ordering::Relaxed) {
            return;
        }
        let mut untold = self.lock();
        loop {
            let consumed = self.consumed.load(Ordering::Relaxed);
            if consumed == self.count.load(Ordering::Relaxed) {
                return;
            }
            // Acquire: pairs with the handler's release.
            let place = consumed as usize % KEPT;
            let signal = self.arrivals[place].swap(0, Ordering::Acquire);
            if signal == 0 {
                // The handler is between its two stores; it rings the bell afterwards.
                return;
            }
            let reached = self.record(signal, self.ladder.rung(consumed));
            *untold = match (*untold, reached) {
                (Some(earlier), Some(later)) => Some(earlier.and(later)),
                (earlier, later) => earlier.or(later),
            };
            self.stamps[place].store(0, Ordering::Relaxed);
            self.consumed
                .store(consumed.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// The keeper's part: records what has arrived, and tells everybody of what was recorded.
    pub(super) fn absorb_and_tell(&self) {
        self.absorb();
        let untold = self.lock().take();
        if let Some(untold) = untold {
            self.root.tell(untold);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reached>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be told of the arrival, if anything: the end of the process is news only where it is the first to end the time for draining.
    fn record(&self, signal: i32, rung: Rung) -> Option<Reached> {
        let mode = match rung {
            Rung::Graceful => Mode::Graceful,
            Rung::Immediate => Mode::Immediate,
            Rung::Kill => {
                self.kill.store(signal, Ordering::Relaxed);
                // It was rung for this arrival, but perhaps the keeper has looked already.
                self.bell.ring();
                let is_news = self.root.links().entered[1].is_none();
                return is_news.then(|| Reached::the_end(self.root.tree.clock.now()));
            }
        };
        let source = self.stops.iter().find(|(stop, _)| *stop == signal);
        let source = source.map_or(Source::System, |(_, source)| *source);
        let name = signal_hook::low_level::signal_name(signal);
        Some(self.root.record(StopRequest {
            source,
            mode,
            message: name.map_or_else(|| format!("signal {signal}"), str::to_owned),
            signal: Some(signal),
        }))
    }

    /// The signal by which the process is to end now.
    pub(super) fn killed_by(&self) -> Option<i32> {
        match self.kill.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Whether `signal` has arrived since this was asked last.
    pub(super) fn take_watched(&self, signal: i32) -> bool {
        let slot = usize::try_from(signal)
            .ok()
            .and_then(|slot| self.watched.get(slot));
        slot.is_some_and(|count| count.swap(0, Ordering::Relaxed) != 0)
    }

    /// What the next stop signal will do.
    pub(super) fn next_rung(&self) -> Rung {
        self.ladder.rung(self.count.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::shutdown::keeper::{Duty, Keeper};
    use crate::shutdown::parker::block_on_for;
    use crate::shutdown::tree::Tree;
    use crate::shutdown::{Recorded, ShutdownToken};
    use std::sync::mpsc::channel;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(60);

    /// A mailbox that no handler delivers to, and no keeper looks into.
    fn mailbox(grace: Duration, rungs: &[Rung]) -> (Arc<Mailbox>, ShutdownToken) {
        let tree = Tree::new(Clock::start(), grace, None);
        let root = Node::root(Arc::clone(&tree));
        let token = ShutdownToken {
            node: Arc::clone(&root),
        };
        let stops = vec![
            (libc::SIGTERM, Source::System),
            (libc::SIGINT, Source::User),
        ];
        let ladder = Ladder::new(rungs).expect("a ladder");
        let bell = Arc::new(Bell::new().expect("a descriptor"));
        let mailbox = Arc::new(Mailbox::new(root, stops, Vec::new(), ladder, bell));
        tree.set_mailbox(&mailbox);
        (mailbox, token)
    }

    fn keeper(mailbox: &Arc<Mailbox>, token: &ShutdownToken) -> Keeper {
        let duty = Duty {
            mailbox: Arc::clone(mailbox),
            watched: Vec::new(),
            last_act: Mutex::new(None),
        };
        let bell = Arc::clone(&mailbox.bell);
        Keeper::start(bell, token.clock().clone(), Some(duty)).expect("a thread")
    }

    #[test]
    fn signals_before_the_keeper_is_known_lose_neither_their_first_request_nor_their_deadline() {
        let rungs = [Rung::Graceful, Rung::Graceful, Rung::Kill];
        let (mailbox, token) = mailbox(Duration::from_millis(10), &rungs);
        let (tell, told) = channel();
        let observer = move |first: &StopRequest| tell.send(first.message.clone()).expect("heard");
        token.node.tree.observers.add_before(Box::new(observer));
        for signal in [libc::SIGTERM, libc::SIGINT] {
            assert_eq!(mailbox.deliver(signal), Verdict::Delivered);
        }
        let keeper = keeper(&mailbox, &token);
        let (look, looked) = channel();
        keeper.set(token.clock().now(), move || look.send(()).expect("heard"));
        // An alarm goes off after a look at the mailbox.
        looked.recv_timeout(LONG).expect("the keeper runs");
        token.node.tree.set_keeper(keeper);
        assert_eq!(told.recv_timeout(LONG).as_deref(), Ok("SIGTERM"));
        let ended = block_on_for(token.reached(Phase::Terminating), LONG);
        assert!(ended.is_some(), "the grace period never ends");
        assert_eq!(token.requests().len(), 2);
    }

    #[test]
    fn a_mere_question_records_the_signal_and_runs_no_observer() {
        let (mailbox, token) = mailbox(LONG, &[Rung::Graceful]);
        let (tell, told) = channel();
        token.observe(move |phase| tell.send(phase).expect("heard"));
        mailbox.deliver(libc::SIGTERM);
        assert!(token.is_stopping());
        let reason = token.reason().map(|reason| reason.message);
        assert_eq!(reason.as_deref(), Some("SIGTERM"));
        assert!(token.remaining().is_some() && token.deadline().is_some());
        assert!(format!("{token:?}").contains("SIGTERM"));
        assert_eq!(
            token.status().reason.map(|reason| reason.mode),
            Some(Mode::Graceful)
        );
        assert!(told.try_recv().is_err(), "told by a question");
        mailbox.absorb_and_tell();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Phase::Draining]);
        mailbox.absorb_and_tell();
        assert!(told.try_recv().is_err(), "told twice");
    }

    #[test]
    fn more_signals_than_can_be_remembered_are_recorded_in_order_and_leave_room() {
        let (mailbox, token) = mailbox(LONG, &[Rung::Graceful]);
        for round in 0..3 {
            for number in 0..2 * KEPT_ARRIVALS {
                // The window for repeats is for people; here each arrival counts.
                mailbox
                    .last
                    .iter()
                    .for_each(|last| last.store(0, Ordering::Relaxed));
                let signal = if number == 0 {
                    libc::SIGINT
                } else {
                    libc::SIGTERM
                };
                assert_eq!(mailbox.deliver(signal), Verdict::Delivered);
            }
            let requests = token.requests();
            assert_eq!(requests.len(), (round + 1) * KEPT);
            let of_round = |recorded: &Recorded| recorded.request.message.clone();
            let messages: Vec<String> = requests[round * KEPT..].iter().map(of_round).collect();
            assert_eq!(messages[0], "SIGINT");
            assert!(messages[1..].iter().all(|message| message == "SIGTERM"));
        }
    }
}
