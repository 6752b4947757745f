//! A limit on what may be spent, as a source of stop requests.
//!
//! Invariants:
//!
//! 1. The total only grows, and each spend sees the total before and after itself. So exactly one spend crosses a threshold, on whatever
//!    thread, and that one acts.
//! 2. Spending takes no lock, except in the one spend that warns.
//! 3. The warning and the request are made outside the lock, on the thread of the spend that crossed the threshold.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Amount, ShutdownToken, Source, StopRequest};

type Warning = Box<dyn Fn(Amount) + Send + Sync>;

/// A limit on what may be spent: the spend that reaches it makes one graceful stop request ([`Source::Budget`]).
///
/// Clones share the total. The limit is no wall: the spend that reaches it may go beyond it, and so may the units that finish afterwards.
/// A limit of zero is reached by the first spend of more than nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use safepoint::clock::Clock;
/// use safepoint::shutdown::{Amount, ShutdownToken};
///
/// # fn main() -> safepoint::Result<()> {
/// let token = ShutdownToken::detached(Clock::start(), Duration::from_secs(25));
/// let budget = token.budget("1.00".parse()?);
/// budget.spend("0.34".parse()?);
/// budget.spend("0.34".parse()?);
/// let spent = budget.spend("0.34".parse()?);
/// assert!(spent.reached && token.is_stopping());
/// assert_eq!(token.reason().map(|reason| reason.message).as_deref(), Some("budget of 1.00 reached (1.02 spent)"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    token: ShutdownToken,
    limit: Amount,
    /// In micro-units.
    total: AtomicU64,
    lifted: AtomicBool,
    /// Empty once the warning was given.
    warnings: Mutex<Vec<Warning>>,
}

/// What one spend led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// All that was spent up to and including this spend.
    pub total: Amount,
    /// What was left of the limit then.
    pub left: Amount,
    /// Whether this spend is the one that reached the limit. True for one spend at most, also of a budget that was lifted.
    pub reached: bool,
}

impl Budget {
    /// A budget of which nothing is spent yet; reaching `limit` stops `token` and what is below it.
    pub fn new(token: &ShutdownToken, limit: Amount) -> Self {
        Self {
            shared: Arc::new(Shared {
                token: token.clone(),
                limit,
                total: AtomicU64::new(0),
                lifted: AtomicBool::new(false),
                warnings: Mutex::default(),
            }),
        }
    }

    /// Calls `warning` once with what is spent, when that is 80 % of the limit or more, on the thread of the spend that crossed the mark.
    ///
    /// One spend that crosses both the mark and the limit warns first and stops then, also when the warning panics. Several warnings are called
    /// in the order they were added; one that is added after the mark was crossed is never called.
    pub fn on_warning(self, warning: impl Fn(Amount) + Send + Sync + 'static) -> Self {
        self.shared.lock_warnings().push(Box::new(warning));
        self
    }

    /// Counts `amount` as spent, and asks for the stop if that reaches the limit.
    ///
    /// The total stops at [`Amount::MAX`]. Callable from any thread, and cheap: one atomic addition as a rule.
    pub fn spend(&self, amount: Amount) -> Spent {
        let shared = &*self.shared;
        let add = |total: u64| Some(total.saturating_add(amount.micros()));
        // Relaxed: the counter guards no other memory, and additions to one atomic have one order in which each sees the one before.
        let (Ok(before) | Err(before)) =
            shared
                .total
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let before = Amount::from_micros(before);
        let total = before.saturating_add(amount);
        let crosses = |mark: Amount| before < mark && total >= mark;
        let spent = Spent {
            total,
            left: shared.limit.saturating_sub(total),
            reached: crosses(shared.stop_mark()),
        };
        let warns = crosses(shared.warning_mark());
        // Relaxed: a lift that happened before this spend is seen; one at the same time may come too late in any ordering.
        if (warns || spent.reached) && !shared.lifted.load(Ordering::Relaxed) {
            let warned = catch_unwind(AssertUnwindSafe(|| {
                if warns {
                    shared.warn(total);
                }
            }));
            if spent.reached {
                shared.stop(total);
            }
            if let Err(panic) = warned {
                resume_unwind(panic);
            }
        }
        spent
    }

    /// All that was spent so far.
    pub fn spent(&self) -> Amount {
        // Relaxed: the counter guards no other memory.
        Amount::from_micros(self.shared.total.load(Ordering::Relaxed))
    }

    /// The limit.
    pub fn limit(&self) -> Amount {
        self.shared.limit
    }

    /// What is left of the limit; zero once it is reached.
    pub fn left(&self) -> Amount {
        self.shared.limit.saturating_sub(self.spent())
    }

    /// Lifts the limit: spending goes on being counted, but from now on it neither warns nor asks for a stop.
    ///
    /// A spend on another thread that is just crossing a mark may still act on it. A stop that was asked for stays asked for.
    pub fn lift(&self) {
        // Relaxed: the flag guards no other memory; see `spend`.
        self.shared.lifted.store(true, Ordering::Relaxed);
    }
}

impl ShutdownToken {
    /// A budget whose limit, once reached, stops this token gracefully; see [`Budget`].
    pub fn budget(&self, limit: Amount) -> Budget {
        Budget::new(self, limit)
    }
}

impl Shared {
    /// The total that makes the request: the limit, and more than nothing.
    fn stop_mark(&self) -> Amount {
        self.limit.max(Amount::from_micros(1))
    }

    /// The least total that is 80 % of the limit, and more than nothing.
    fn warning_mark(&self) -> Amount {
        // The fifth is rounded down, so what remains is four fifths rounded up.
        let fifth = Amount::from_micros(self.limit.micros() / 5);
        self.limit.saturating_sub(fifth).max(Amount::from_micros(1))
    }

    fn lock_warnings(&self) -> MutexGuard<'_, Vec<Warning>> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, total: Amount) {
        let warnings = std::mem::take(&mut *self.lock_warnings());
        for warning in warnings {
            warning(total);
        }
    }

    fn stop(&self, total: Amount) {
        self.token.request(StopRequest::graceful(
            Source::Budget,
            format!("budget of {} reached ({total} spent)", self.limit),
        ));
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit())
            .field("spent", &self.spent())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::shutdown::{Mode, Phase};
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    fn token() -> ShutdownToken {
        ShutdownToken::detached(Clock::start(), Duration::from_secs(60))
    }

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    /// A budget, and what its warning was called with.
    fn watched(token: &ShutdownToken, limit: &str) -> (Budget, Arc<Mutex<Vec<Amount>>>) {
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&warnings);
        let budget = token
            .budget(amount(limit))
            .on_warning(move |spent| told.lock().unwrap().push(spent));
        (budget, warnings)
    }

    #[test]
    fn the_spend_that_reaches_the_limit_asks_once() {
        let token = token();
        let (budget, warnings) = watched(&token, "1.00");
        let spent = budget.spend(amount("0.79"));
        assert_eq!((spent.total, spent.left), (amount("0.79"), amount("0.21")));
        assert!(warnings.lock().unwrap().is_empty());
        assert!(!budget.spend(amount("0.01")).reached);
        assert_eq!(*warnings.lock().unwrap(), [amount("0.80")]);
        assert!(!token.is_stopping());
        let spent = budget.spend(amount("0.22"));
        assert!(spent.reached);
        assert_eq!((spent.left, budget.left()), (Amount::ZERO, Amount::ZERO));
        assert!(!budget.clone().spend(amount("1")).reached);
        let [recorded] = &token.requests()[..] else {
            panic!("one request");
        };
        assert_eq!(recorded.request.source, Source::Budget);
        assert_eq!(recorded.request.mode, Mode::Graceful);
        assert_eq!(
            recorded.request.message,
            "budget of 1.00 reached (1.02 spent)"
        );
        assert_eq!(warnings.lock().unwrap().len(), 1);
        assert_eq!(budget.spent(), amount("2.02"));
    }

    #[test]
    fn exactly_the_limit_is_enough() {
        let token = token();
        let budget = token.budget(amount("1.00"));
        for _ in 0..9 {
            assert!(!budget.spend(amount("0.10")).reached);
        }
        assert!(budget.spend(amount("0.10")).reached);
        assert_eq!(token.phase(), Phase::Draining);
    }

    #[test]
    fn one_spend_over_both_marks_warns_first_even_if_the_warning_panics() {
        let token = token();
        let asked = token.clone();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let budget = token.budget(amount("1.00")).on_warning(move |spent| {
            counted.fetch_add(1, Ordering::Relaxed);
            assert!(asked.is_stopping(), "not stopping yet, {spent} spent");
        });
        let spend = catch_unwind(AssertUnwindSafe(|| budget.spend(amount("5.00"))));
        let panic = spend.expect_err("the warning's panic reaches the spender");
        assert_eq!(
            panic.downcast_ref::<String>().map(String::as_str),
            Some("not stopping yet, 5.00 spent")
        );
        assert_eq!(token.requests().len(), 1);
        budget.spend(amount("5.00"));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_warning_mark_is_four_fifths_rounded_up() {
        for (limit, mark) in [
            (0, 1),
            (1, 1),
            (4, 4),
            (5, 4),
            (6, 5),
            (u64::MAX, 14_757_395_258_967_641_292),
        ] {
            let token = token();
            let (budget, warnings) = watched(&token, &Amount::from_micros(limit).to_string());
            budget.spend(Amount::from_micros(mark - 1));
            assert!(warnings.lock().unwrap().is_empty(), "{limit}");
            budget.spend(Amount::from_micros(1));
            assert_eq!(warnings.lock().unwrap().len(), 1, "{limit}");
        }
    }

    #[test]
    fn a_limit_of_zero_allows_what_costs_nothing() {
        let token = token();
        let (budget, warnings) = watched(&token, "0");
        assert!(!budget.spend(Amount::ZERO).reached);
        assert!(!token.is_stopping());
        assert!(budget.spend(Amount::from_micros(1)).reached);
        assert_eq!(warnings.lock().unwrap().len(), 1);
        assert_eq!(token.requests().len(), 1);
    }

    #[test]
    fn a_lifted_budget_counts_and_is_silent() {
        let token = token();
        let (budget, warnings) = watched(&token, "1.00");
        budget.clone().lift();
        assert!(budget.spend(amount("2.00")).reached);
        assert!(!token.is_stopping());
        assert!(warnings.lock().unwrap().is_empty());
        assert_eq!(budget.spent(), amount("2.00"));
    }

    #[test]
    fn the_total_stops_at_the_largest_amount() {
        let token = token();
        let budget = token.budget(Amount::MAX);
        budget.spend(Amount::from_micros(u64::MAX - 1));
        assert!(!token.is_stopping());
        assert!(budget.spend(Amount::MAX).reached);
        assert!(!budget.spend(Amount::MAX).reached);
        assert_eq!((budget.spent(), token.requests().len()), (Amount::MAX, 1));
    }

    #[test]
    fn many_threads_make_one_warning_one_request_and_an_exact_total() {
        const THREADS: usize = 8;
        const SPENDS: u32 = 10_000;
        let token = token();
        let (budget, warnings) = watched(&token, "4.00");
        let start = Barrier::new(THREADS);
        let spend = || {
            start.wait();
            (0..SPENDS)
                .filter(|_| budget.spend(amount("0.0001")).reached)
                .count()
        };
        let reached: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(spend)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(reached, 1);
        assert_eq!(budget.spent(), amount("8.00"));
        assert_eq!(*warnings.lock().unwrap(), [amount("3.20")]);
        let [recorded] = &token.requests()[..] else {
            panic!("one request");
        };
        assert_eq!(
            recorded.request.message,
            "budget of 4.00 reached (4.00 spent)"
        );
    }
}
