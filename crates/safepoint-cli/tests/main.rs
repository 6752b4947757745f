//! The command as a person uses it: real processes, real signals, real files.

#![expect(
    clippy::disallowed_methods,
    reason = "tests write their own inputs and read the clock"
)]

mod caches;
mod checkpoints;
mod commands;
mod faults;
mod http;
mod init;
mod inputs;
mod kubernetes;
mod pages;
mod queues;
mod reports;
mod shown;
mod steps;
mod stopping;
mod storms;
mod supervise;
mod support;
mod terminal;
mod workers;
