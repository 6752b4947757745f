//! Checks of the Python package: its Python half from the copy of the sources, its native half from `.venv`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A check that takes longer hangs, which is one way to fail.
const SECONDS: &str = "300";

/// Whether `module::test` passes, with all its parameters.
pub(super) fn passes(root: &Path, tree: &Path, check: &str) -> io::Result<bool> {
    let environment = root.join(".venv");
    let native = native(&environment)?;
    let package = tree.join("python/safepoint");
    let name = native.file_name().unwrap_or_default();
    fs::copy(&native, package.join(name))?;
    let (module, test) = check
        .split_once("::")
        .ok_or_else(|| io::Error::other(format!("{check} is not `module::test`")))?;
    let tested = Command::new("timeout")
        .args(["--kill-after=5", SECONDS])
        .arg(environment.join("bin/python"))
        .args(["-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"])
        .arg(format!("python/tests/{module}.py::{test}"))
        .current_dir(tree)
        .env("PYTHONPATH", tree.join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    match tested.code() {
        Some(0) => Ok(true),
        // A test that failed, and the two of `timeout`. Whatever else pytest says is not about a test.
        Some(1 | 124 | 137) => Ok(false),
        _ => Err(io::Error::other(format!(
            "{check} cannot be run; is the package in .venv? See scripts/python-build"
        ))),
    }
}

/// The native module, as `scripts/python-build` installed it.
fn native(environment: &Path) -> io::Result<PathBuf> {
    for folder in fs::read_dir(environment.join("lib")).into_iter().flatten() {
        let package = folder?.path().join("site-packages/safepoint");
        for entry in fs::read_dir(package).into_iter().flatten() {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("_native.") && name.ends_with(".so") {
                return Ok(path);
            }
        }
    }
    Err(io::Error::other(
        "the Python package is not in .venv: run scripts/python-build first",
    ))
}
