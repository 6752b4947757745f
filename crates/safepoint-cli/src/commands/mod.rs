//! The commands around `run`, one file each: read what the library says, and render it.

pub(crate) mod cache;
pub(crate) mod checkpoint;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod queue;
pub(crate) mod results;
pub(crate) mod retry;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod steps;
pub(crate) mod stop;
pub(crate) mod validate;
