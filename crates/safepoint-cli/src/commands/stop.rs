//! `safepoint stop`.

use safepoint::Result;

use crate::args::StopArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint stop`.
pub(crate) fn command(context: &Context, args: &StopArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
