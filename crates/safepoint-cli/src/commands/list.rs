//! `safepoint list`.

use safepoint::Result;

use crate::args::ListArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint list`.
pub(crate) fn command(context: &Context, args: &ListArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
