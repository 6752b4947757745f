//! `safepoint checkpoint`: what people want to know of checkpoints, and to do with them.

mod export;
mod list;
mod place;
mod prune;
mod show;
mod validate;

use safepoint::Result;

pub(crate) use self::place::CHECKPOINTS;
pub(crate) use self::validate::{WAY_OUT, check, problems};
use crate::args::CheckpointCommand;
use crate::context::Context;
use crate::exit::Exit;

/// Runs one of the commands.
pub(crate) fn command(context: &Context, command: &CheckpointCommand) -> Result<Exit> {
    match command {
        CheckpointCommand::List(args) => list::command(context, args),
        CheckpointCommand::Show(args) => show::command(context, args),
        CheckpointCommand::Validate(args) => validate::command(context, args),
        CheckpointCommand::Export(args) => export::command(context, args),
        CheckpointCommand::Prune(args) => prune::command(context, args),
    }
}
