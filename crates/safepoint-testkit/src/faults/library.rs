//! Builds the preloaded library, once for each version of its source.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Mutex;

const SOURCE: &str = include_str!("../../preload/faults.c");

/// The path of the library, which is compiled on first use and kept beside the running test.
///
/// # Errors
///
/// `NotFound` when there is no C compiler `cc`; `Other`, with its messages, when it fails.
pub fn library() -> io::Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let folder = std::env::current_exe()?
        .parent()
        .map_or_else(std::env::temp_dir, Path::to_path_buf);
    let library = folder.join(format!("faults-{:016x}.so", hasher.finish()));
    if !library.exists() {
        compile(&folder, &library)?;
    }
    Ok(library)
}

/// Other processes may be compiling too; the rename makes all of them right.
fn compile(folder: &Path, library: &Path) -> io::Result<()> {
    let unique = process::id();
    let source = folder.join(format!("faults-{unique}.c"));
    let built = folder.join(format!("faults-{unique}.so"));
    fs::write(&source, SOURCE)?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&built, &source])
        .arg("-ldl")
        .output()
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot run the C compiler `cc`: {error}"),
            )
        })?;
    fs::remove_file(&source)?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!(
            "`cc` failed to build the faults library: {messages}"
        )));
    }
    fs::rename(&built, library)
}
