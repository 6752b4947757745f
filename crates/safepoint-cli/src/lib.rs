//! The command `safepoint`: parse, make options, one library call, render.
//!
//! Everything that decides anything is in the library; this crate owns the terminal, the environment and the exit codes.

mod args;
mod commands;
mod context;
pub mod exit;
mod http;
mod page;
mod render;
mod report;
mod run;
mod settings;
mod supervise;
mod table;
mod time;
mod ui;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::exit::Exit;

/// Runs the command line `arguments` (the program's name first) and returns its exit code. A forced stop ends the process by its signal.
pub fn main_impl(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(command(arguments))
}

/// As [`main_impl`], with the code as a number, for a `main` that is not Rust's.
pub fn command(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let exit = match parse(arguments) {
        Ok(cli) => dispatch(cli),
        Err(exit) => exit,
    };
    exit.leave()
}

/// The command line's definition, for completions, the manual page and the reference.
pub fn definition() -> clap::Command {
    Cli::command()
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    Cli::try_parse_from(arguments).map_err(|error| {
        let code = if error.use_stderr() {
            exit::USAGE
        } else {
            exit::DONE
        };
        // Nothing is left to do if the help cannot be printed.
        let _ = error.print();
        Exit::Code(code)
    })
}

fn dispatch(cli: Cli) -> Exit {
    let context = Context::new(&cli.global);
    let done = match cli.command {
        Command::Run(args) => run::command(&context, *args),
        Command::Supervise(args) => supervise::command(&context, &args),
        Command::List(args) => commands::list::command(&context, &args),
        Command::Status(args) => commands::status::command(&context, &args),
        Command::Show(args) => commands::show::command(&context, &args),
        Command::Results(args) => commands::results::command(&context, &args),
        Command::Events(args) => commands::events::command(&context, &args),
        Command::Report(args) => report::command(&context, &args),
        Command::Retry(args) => commands::retry::command(&context, &args),
        Command::Stop(args) => commands::stop::command(&context, &args),
        Command::Clean(args) => commands::clean::command(&context, &args),
        Command::Validate(args) => commands::validate::command(&context, &args),
        Command::Checkpoint(command) => commands::checkpoint::command(&context, &command),
        Command::Cache(command) => commands::cache::command(&context, &command),
        Command::Steps(args) => commands::steps::command(&context, &args),
        Command::Queue(command) => commands::queue::command(&context, &command),
        Command::Init(command) => commands::init::command(&context, &command),
        Command::Doctor(args) => commands::doctor::command(&context, &args),
        Command::Completions(args) => commands::completions::command(&context, &args),
        Command::Man(args) => commands::man::command(&context, &args),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => {
            context::say_error(&error);
            Exit::Code(exit::of_kind(error.kind()))
        }
    }
}
