//! Faults, crash images and helper processes for safepoint's own tests.
//!
//! | module | gives |
//! |---|---|
//! | [`faults`] | count, kill at, fail at, forge or record the file operations of a program |
//! | [`trace`] | what such a recording holds |
//! | [`image`] | the directory a power cut, or a kill, would have left at any point of a recording |
//! | [`saves`] | a program that saves checkpoints and says which are durable, and what must be there after a crash |
//! | [`storm`] | kill `safepoint run` over and over, resume it, and check what it had acknowledged |
//! | [`supervised`] | kill `safepoint supervise`, its guard or its command, and look for what lives on |
//! | [`random`] | numbers from a printed seed |
//!
//! Three rules hold here. What is verified is what was *acknowledged*, never what was recovered. Faults that
//! fired are counted. Each check has a negative control: a planted bug that it must catch.
#![expect(
    clippy::disallowed_methods,
    reason = "the walls are those of the library; a harness reads the clock and writes plain files"
)]

pub mod faults;
pub mod image;
pub mod random;
pub mod saves;
pub mod storm;
pub mod supervised;
pub mod trace;

use std::io;
use std::path::PathBuf;

/// The path of a helper binary of this package (such as `echo-worker`), beside the running test.
///
/// # Errors
///
/// `NotFound`, with the command that builds it, when it was not built: `cargo test --workspace` does, `-p` of
/// another package does not.
pub fn helper(name: &str) -> io::Result<PathBuf> {
    let test = std::env::current_exe()?;
    test.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let hint = format!(
                "no `{name}` beside {}; run `cargo build -p safepoint-testkit`",
                test.display()
            );
            io::Error::new(io::ErrorKind::NotFound, hint)
        })
}
