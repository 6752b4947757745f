//! `safepoint man`.

use safepoint::Result;

use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint man`.
pub(crate) fn command(context: &Context) -> Result<Exit> {
    let _ = context;
    Ok(Exit::Code(exit::DONE))
}
