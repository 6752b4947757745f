//! `safepoint validate`.

use safepoint::Result;

use crate::args::ValidateArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint validate`.
pub(crate) fn command(context: &Context, args: &ValidateArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
