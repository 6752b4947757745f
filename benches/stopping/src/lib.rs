//! Measures the shutdown room of safepoint beside other crates for stopping a program.
//!
//! Every tool is put behind the same small traits, so that a loop around one of its operations is the same source for all and is
//! compiled for each. What a tool does not have, it does not implement, and its cell in the table stays empty.
//!
//! - [`tools`]: the tools.
//! - [`stopwatch`]: wall time and processor time.
//! - [`rates`]: the time of an operation that is far shorter than reading a clock, on one thread or several.
//! - [`wakes`]: from a request to the first and the last of many futures that wait for it.
//! - [`signals`]: from a signal to the flag, in a process of its own.
//! - [`table`]: medians, ratios and the table.
//!
//! Tools take turns within a round, and a ratio is the median of the rounds' ratios: a machine whose speed drifts drifts for all.

pub mod rates;
pub mod signals;
pub mod stopwatch;
pub mod table;
pub mod tools;
pub mod wakes;
