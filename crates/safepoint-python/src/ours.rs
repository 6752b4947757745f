//! What belongs to one process: handles with threads and files behind them, which a fork has no use for.

/// A value of the process that made it. In a fork of that process it is refused, and never dropped: its threads are not there, and its files are the other's.
pub(crate) struct Ours<T> {
    pid: u32,
    /// Always there, until it is dropped.
    value: Option<T>,
}

impl<T> Ours<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            pid: std::process::id(),
            value: Some(value),
        }
    }

    /// The value. `what` names it for the refusal, as in `the steps`.
    pub(crate) fn get(&self, what: &str) -> safepoint::Result<&T> {
        match &self.value {
            Some(value) if self.pid == std::process::id() => Ok(value),
            _ => {
                let error = safepoint::Error::invalid(format!(
                    "{what} belong to process {}, of which this one is a fork",
                    self.pid
                ));
                Err(error.with_hint(
                    "ask there, and give results back; or start processes by `spawn` or `forkserver`",
                ))
            }
        }
    }
}

impl<T> Drop for Ours<T> {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            std::mem::forget(self.value.take());
        }
    }
}
