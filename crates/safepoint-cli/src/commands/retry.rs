//! `safepoint retry`.

use safepoint::Result;

use crate::args::RetryArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint retry`.
pub(crate) fn command(context: &Context, args: &RetryArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
