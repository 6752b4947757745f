//! `safepoint man`: the manual page, made from the command line's definition.

use safepoint::{Error, ErrorKind, Result};

use crate::args::ManArgs;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::page::Page;
use crate::render::safe;

/// Runs `safepoint man`.
pub(crate) fn command(_: &Context, args: &ManArgs) -> Result<Exit> {
    let mut definition = crate::definition();
    // So that the commands know the global options and their own full names.
    definition.build();
    let chosen = match &args.command {
        None => definition,
        Some(name) => definition.find_subcommand(name).cloned().ok_or_else(|| {
            Error::invalid(format!("there is no command `{}`", safe(name, false)))
                .with_hint("`safepoint --help` lists the commands")
        })?,
    };
    let mut roff = Vec::new();
    clap_mangen::Man::new(chosen)
        .render(&mut roff)
        .map_err(|error| {
            Error::new(ErrorKind::Io, "cannot make the manual page").with_source(error)
        })?;
    let mut page = Page::new();
    page.bytes(&roff);
    page.finish()?;
    Ok(Exit::Code(exit::DONE))
}
