//! The first 128 bytes: one line of text, for people and for `file`.

use super::{FormatVersion, damaged};
use crate::error::Result;

/// Its length in bytes, the line's end included.
pub(crate) const HEADER_BYTES: usize = 128;

const MAGIC: &[u8] = br#"{"safepoint":"checkpoint","version":"#;

/// The line for a file of this version, padded with spaces.
pub(crate) fn encode(
    version: FormatVersion,
    generation: u64,
    encoding: &str,
) -> [u8; HEADER_BYTES] {
    let mut line = String::from_utf8_lossy(MAGIC).into_owned();
    line.push_str(&format!(
        r#"{},"generation":{generation},"encoding":"{encoding}"}}"#,
        version.0
    ));
    debug_assert!(line.len() < HEADER_BYTES, "all parts are bounded");
    let mut header = [b' '; HEADER_BYTES];
    header[..line.len()].copy_from_slice(line.as_bytes());
    header[HEADER_BYTES - 1] = b'\n';
    header
}

/// The version that the line names. The rest of the line says again what the metadata says.
///
/// # Errors
///
/// Kind `Corrupt` when it is not such a line.
pub(crate) fn version(header: &[u8]) -> Result<FormatVersion> {
    let rest = header
        .strip_prefix(MAGIC)
        .ok_or_else(|| damaged("it does not begin as a checkpoint does"))?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .map(FormatVersion)
        .ok_or_else(|| damaged("its header names no format version"))
}
