//! What a person sees while a job runs: notices, and a bar or a line now and then, all on standard error.

mod notices;
mod screen;

pub(crate) use screen::{Pen, Screen, wipe_line};
