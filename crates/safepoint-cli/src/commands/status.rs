//! `safepoint status`.

use safepoint::Result;

use crate::args::StatusArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint status`.
pub(crate) fn command(context: &Context, args: &StatusArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
