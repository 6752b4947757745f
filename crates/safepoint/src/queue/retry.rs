//! When a failed item is attempted again.

use std::time::Duration;

/// How often, and after how long, a failed item is attempted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts before the item is dead. At least 1; default 3.
    pub max_attempts: u32,
    /// The wait after the first failed attempt; each further wait is twice as long. Default 1 s.
    pub base: Duration,
    /// The longest wait. Default 5 min.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// The wait after `attempts` failed attempts, or `None` when there is to be no other.
    ///
    /// `spread` (any number; the same one gives the same wait) shortens the wait by up to a quarter, so that items that failed
    /// together do not come back together.
    pub fn wait_after(&self, attempts: u32, spread: u64) -> Option<Duration> {
        if attempts >= self.max_attempts {
            return None;
        }
        let doublings = attempts.saturating_sub(1).min(31);
        let wait = self.base.saturating_mul(1 << doublings).min(self.cap);
        // The top bits of a multiplicative hash are well mixed even for small, consecutive numbers (Knuth, TAOCP 6.4).
        let mixed = u32::try_from(spread.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48).unwrap_or(0);
        Some(wait.saturating_sub((wait / 4).mul_f64(f64::from(mixed) / 65_536.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_double_stay_below_the_cap_and_end(attempts in 1u32..200, spread in any::<u64>(), max in 1u32..200) {
            let policy = RetryPolicy { max_attempts: max, ..RetryPolicy::default() };
            match policy.wait_after(attempts, spread) {
                None => prop_assert!(attempts >= max),
                Some(wait) => {
                    prop_assert!(attempts < max);
                    let full = policy.base.saturating_mul(1 << (attempts - 1).min(31)).min(policy.cap);
                    prop_assert!(wait <= full && wait >= full.mul_f64(0.74));
                }
            }
        }
    }
}
