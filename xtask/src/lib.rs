//! The project's own checks and generators, as functions, so that `cargo test` runs what `cargo
//! xtask` runs.

pub mod models;
pub mod planted;
pub mod prometheus;
pub mod public_api;
pub mod reference;
pub mod tidy;
pub mod torture;
