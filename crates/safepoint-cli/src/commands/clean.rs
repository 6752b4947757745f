//! `safepoint clean`.

use safepoint::Result;

use crate::args::CleanArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint clean`.
pub(crate) fn command(context: &Context, args: &CleanArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
