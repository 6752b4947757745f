//! `safepoint doctor`.

use safepoint::Result;

use crate::args::DoctorArgs;
use crate::context::Context;
use crate::exit::{self, Exit};

/// Runs `safepoint doctor`.
pub(crate) fn command(context: &Context, args: &DoctorArgs) -> Result<Exit> {
    let _ = (context, args);
    Ok(Exit::Code(exit::DONE))
}
