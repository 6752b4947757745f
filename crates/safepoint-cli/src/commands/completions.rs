//! `safepoint completions`.

use safepoint::Result;

use crate::args::CompletionsArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint completions`.
pub(crate) fn command(context: &Context, args: &CompletionsArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
