//! The library as a program uses it: real processes, signals, sockets and runtimes.

#![expect(
    clippy::disallowed_methods,
    reason = "tests read the environment as a program does"
)]

mod children;
#[cfg(feature = "tokio")]
mod on_tokio;
mod signals;
mod stop_descriptor;
mod support;
#[cfg(feature = "systemd")]
mod systemd;
