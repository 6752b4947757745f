//! The faults, tried on programs whose behaviour is known: the `sqlite3` shell, `sh` and Python.
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only the functions marked as tests"
)]
#![expect(clippy::disallowed_methods, reason = "tests write plain files")]

mod counting;
mod power_cut;
mod saves;
mod storms;
