//! The library as a program uses it: real processes, signals, sockets and runtimes, and nothing but what it exports.

#![expect(
    clippy::disallowed_methods,
    reason = "tests read the environment as a program does"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only the functions marked as tests"
)]

#[cfg(feature = "checkpoint")]
mod cache;
#[cfg(feature = "checkpoint")]
mod checkpoint_crashes;
#[cfg(feature = "checkpoint")]
mod checkpoint_disks;
#[cfg(feature = "checkpoint")]
mod checkpoint_format;
#[cfg(feature = "checkpoint")]
mod checkpoint_power;
mod children;
mod crossing;
#[cfg(feature = "health")]
mod health;
#[cfg(feature = "tokio")]
mod on_tokio;
mod phases;
#[cfg(feature = "queue")]
mod queue;
#[cfg(feature = "queue")]
mod queue_crashes;
mod signals;
#[cfg(feature = "steps")]
mod steps;
mod stop_descriptor;
mod support;
#[cfg(feature = "systemd")]
mod systemd;
