//! What systemd is told: ready, stopping, more time while it is used, alive.
//!
//! A service of `Type=notify` gets a socket from systemd. [`Systemd`] writes to it: `READY=1` when the program says so, `STOPPING=1` with the
//! first stop request, and from then on `STATUS=` with what is waited for, and `EXTEND_TIMEOUT_USEC=` as long as that becomes less. So
//! `TimeoutStopSec=` may be short: a stop that gets on is not cut off by it, and one that does not is. With `WatchdogSec=`, `WATCHDOG=1` is sent at
//! half of that time, while draining too.
//!
//! ```ini
//! [Service]
//! Type=notify
//! ExecStart=/usr/bin/worker
//! TimeoutStopSec=30
//! WatchdogSec=20
//! ```
//!
//! The library reads no environment, so the caller passes the way to look into it, and nothing more: `std::env::var_os`. That is why the
//! crate sd-notify is not used: each of its calls reads the variables by itself. The protocol is a line of text in a datagram.
//!
//! Without systemd, or with another service manager, nothing is there to be told, and every call does nothing.
//!
//! # Invariants
//!
//! 1. `STOPPING=1` is sent by the thread that made the request, before the request returns, so that also a program that ends at once has said so.
//! 2. Nothing of it ever blocks: a message that finds the socket full is sent again by the next look, or dropped if it is out of date by then.
//! 3. A text is one line without control characters, so that no name of the program's becomes an assignment.
//!
//! Deliberately absent: socket activation, reloading, the descriptor store.

mod builder;
mod message;
mod progress;
mod service;

pub use builder::{Builder, DEFAULT_EXTENSION};
pub use service::Systemd;
