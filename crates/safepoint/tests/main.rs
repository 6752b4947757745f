//! The library as a program uses it: through what it exports, and nothing else.
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only the functions marked as tests"
)]

mod interleavings;
mod phases;
