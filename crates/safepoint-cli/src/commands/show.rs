//! `safepoint show`.

use safepoint::Result;

use crate::args::ShowArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint show`.
pub(crate) fn command(context: &Context, args: &ShowArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
