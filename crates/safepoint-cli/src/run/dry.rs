//! `--dry-run`: the commands, as a shell would take them, without running or changing anything.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use safepoint::Result;
use safepoint::job::{self, Definition, Delivery, Options, quote};

use crate::context::stdout_error;
use crate::exit::{self, Exit};

pub(super) fn command(definition: &Definition, options: &Options) -> Result<Exit> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if definition.delivery == Delivery::Worker {
        let words: Vec<String> = definition
            .command
            .iter()
            .map(|word| quote(word.as_bytes()))
            .collect();
        writeln!(out, "{}", words.join(" ")).or_else(|_| Ok::<(), safepoint::Error>(()))?;
    }
    let limit = options.limit.unwrap_or(u64::MAX);
    let mut failure = None;
    job::preview(definition, limit, |line| match line {
        _ if definition.delivery == Delivery::Worker => true,
        Ok(words) => {
            let words: Vec<String> = words.iter().map(|word| quote(word.as_bytes())).collect();
            writeln!(out, "{}", words.join(" "))
                .map_err(|error| failure = Some(error))
                .is_ok()
        }
        Err(why) => writeln!(out, "# refused: {why}")
            .map_err(|error| failure = Some(error))
            .is_ok(),
    })?;
    if let Some(error) = failure {
        stdout_error(error)?;
    } else if let Err(error) = out.flush() {
        stdout_error(error)?;
    }
    Ok(Exit::Code(exit::DONE))
}
