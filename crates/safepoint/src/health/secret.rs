//! The token that a stop from elsewhere needs.

use std::fmt;
use std::hint::black_box;
use std::path::Path;

use crate::disk;
use crate::error::{Error, ErrorKind, Result};

/// The fewest characters of a token.
const SHORTEST: usize = 16;
/// The most bytes of its file.
const LONGEST: u64 = 4096;

/// A token that whoever asks for a stop has to know; it is never shown.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A token of the caller's: at least 16 printable ASCII characters without spaces.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it is something else.
    pub fn new(token: &str) -> Result<Self> {
        if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid(format!(
                "a token must have {SHORTEST} printable characters or more, and no spaces"
            )));
        }
        Ok(Self(token.as_bytes().into()))
    }

    /// Reads the token in the file at `path`; a file that is not there is made (0600) with 32 random bytes as hexadecimal digits.
    ///
    /// # Durability
    ///
    /// A file that was made survives a power cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when the file is a link or otherwise no regular file, when others than its owner may read it, or when
    /// what it holds is no token; [`ErrorKind::Io`] when it cannot be read or made.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = if let Some(text) = disk::read_private(path, LONGEST)? {
            text
        } else {
            let token = random_token()?;
            if disk::make_private(path, token.as_bytes())? {
                return Self::new(token.trim_end());
            }
            // Somebody made it a moment ago.
            disk::read_private(path, LONGEST)?.unwrap_or_default()
        };
        let text = String::from_utf8(text).unwrap_or_default();
        Self::new(text.trim()).map_err(|error| {
            Error::new(
                error.kind(),
                format!("the token file `{}` cannot be used", path.display()),
            )
            .with_source(error)
            .with_hint("remove it, and a new one is made")
        })
    }

    /// Whether this is the token. How long that takes says nothing of where the first difference is.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        if given.len() != self.0.len() {
            return false;
        }
        let pairs = self.0.iter().zip(given);
        let difference = pairs.fold(0, |difference, (ours, theirs)| {
            black_box(difference | (ours ^ theirs))
        });
        black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(
                    Error::new(ErrorKind::Io, "cannot get random bytes for a token")
                        .with_source(std::io::Error::from(error)),
                );
            }
        }
    }
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_file_is_made_once_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let made = Secret::from_file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        assert!(made.is(text.trim().as_bytes()));
        assert!(Secret::from_file(&path).unwrap().is(text.trim().as_bytes()));
        assert!(!made.is(b"") && !made.is(text.as_bytes()));
        assert_eq!(format!("{made:?}"), "Secret");
    }

    #[test]
    fn a_file_that_others_may_read_a_link_and_a_weak_token_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let refused = |path: &Path| {
            Secret::from_file(path)
                .err()
                .map(|error| error.chain())
                .unwrap_or_default()
        };
        Secret::from_file(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refused(&path).contains("others"), "{}", refused(&path));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(refused(&link).contains("link"), "{}", refused(&link));
        let weak = directory.path().join("weak");
        disk::make_private(&weak, b"short\n").unwrap();
        assert!(
            refused(&weak).contains("16 printable"),
            "{}",
            refused(&weak)
        );
        assert!(!refused(directory.path()).is_empty());
    }
}
