//! The command `safepoint`.

use std::process::ExitCode;

fn main() -> ExitCode {
    safepoint_cli::main_impl(std::env::args_os())
}
