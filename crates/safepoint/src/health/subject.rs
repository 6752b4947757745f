//! Whom the questions are about.

use super::exposition::Exposition;

/// What a server tells the status and the metrics of.
///
/// Both are asked on a thread of their own, at most once a second and one call at a time, however many clients ask. A call that hangs is waited for
/// by nobody longer than a second or two: the clients get 503 until it returns.
pub trait Subject: Send + Sync {
    /// The status as one JSON object.
    fn status(&self) -> String;

    /// Adds metrics to those that every program has: the phase, stop requests, readiness, and what the process uses.
    fn metrics(&self, exposition: &mut Exposition) {
        let _ = exposition;
    }
}
