//! Stop long-running work at any moment and go on exactly where it was.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod clock;
#[cfg(feature = "job")]
pub mod disk;
mod error;
#[cfg(feature = "job")]
pub mod job;
#[cfg(feature = "job")]
pub mod process;
#[cfg(feature = "job")]
pub mod queue;
pub mod shutdown;

pub use error::{Error, ErrorKind, Result};
pub use shutdown::Shutdown;
