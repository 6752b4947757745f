//! `safepoint completions`.

use safepoint::Result;

use crate::args::CompletionsArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::Page;

/// Runs `safepoint completions`.
pub(crate) fn command(_: &Context, args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::definition(),
        "safepoint",
        &mut script,
    );
    let mut page = Page::new();
    page.bytes(&script);
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}
