//! `safepoint events`.

use safepoint::Result;

use crate::args::EventsArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint events`.
pub(crate) fn command(context: &Context, args: &EventsArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
