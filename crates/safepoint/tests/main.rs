//! The library as a program uses it: real processes, real signals, and nothing but what it exports.
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only the functions marked as tests"
)]

mod phases;
mod signals;
