//! What an entry is called: a hash of its key and its fingerprint.

use std::fmt;

use crate::checkpoint::fingerprint::Fingerprint;
use crate::checkpoint::metadata::Metadata;
use crate::error::{Error, Result};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 1000;
/// The longest fingerprint, in bytes of JSON.
pub const MAX_FINGERPRINT: usize = 64 << 10;

pub(super) const ENTRY_ENDING: &str = ".entry";
const LOCK_ENDING: &str = ".lock";
const DIGITS: usize = 32;

/// XXH3-128 (seed 0) of the key's length in bytes as 8 bytes little-endian, the key, and the fingerprint as JSON without spaces and with sorted keys.
///
/// Two entries with one name would be no harm, only a loss: key and fingerprint are in the file and are compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name(u128);

impl Name {
    pub(super) fn of(key: &str, fingerprint: &str) -> Self {
        let length = (key.len() as u64).to_le_bytes();
        let parts: [&[u8]; 3] = [&length, key.as_bytes(), fingerprint.as_bytes()];
        Self(xxhash_rust::xxh3::xxh3_128(&parts.concat()))
    }

    /// The name that a file's name says.
    pub(super) fn of_file(file: &str) -> Option<Self> {
        Self::parse(file, ENTRY_ENDING)
    }

    /// The name that a lock file's name says.
    pub(super) fn of_lock(file: &str) -> Option<Self> {
        Self::parse(file, LOCK_ENDING)
    }

    fn parse(file: &str, ending: &str) -> Option<Self> {
        let digits = file.strip_suffix(ending)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fits = digits.len() == DIGITS && digits.bytes().all(is_digit);
        u128::from_str_radix(digits, 16)
            .ok()
            .filter(|_| fits)
            .map(Self)
    }

    pub(super) fn file(self) -> String {
        format!("{self}{ENTRY_ENDING}")
    }

    pub(super) fn lock(self) -> String {
        format!("{self}{LOCK_ENDING}")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An entry that somebody asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: String,
    pub(super) fingerprint: Fingerprint,
    canonical: String,
    pub(super) name: Name,
}

impl Wanted {
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when one of them is too long, or the key empty.
    pub(super) fn new(key: &str, fingerprint: &Fingerprint) -> Result<Self> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Error::invalid(format!(
                "the key of a cache's entry has {} bytes; 1 to {MAX_KEY} are allowed",
                key.len()
            ))
            .with_hint("put what is long into the fingerprint, by its hash if need be"));
        }
        let canonical = fingerprint.canonical();
        if canonical.len() > MAX_FINGERPRINT {
            return Err(Error::invalid(format!(
                "the fingerprint of `{}` has {} bytes of JSON; {MAX_FINGERPRINT} are allowed",
                key.escape_debug(),
                canonical.len()
            ))
            .with_hint("put a hash of what is long into it"));
        }
        Ok(Self {
            key: key.to_owned(),
            fingerprint: fingerprint.clone(),
            name: Name::of(key, &canonical),
            canonical,
        })
    }

    /// Whether a file with this metadata is it.
    pub(super) fn is_of(&self, metadata: &Metadata) -> bool {
        metadata.name == self.key && metadata.fingerprint.canonical() == self.canonical
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_depends_on_key_and_fingerprint_and_on_nothing_else() {
        // Fixed for ever: who changes it loses every cache there is.
        let name = Wanted::new("words", &Fingerprint::new().with("corpus", "v3")).unwrap();
        assert_eq!(name.name.file(), NAME_OF_WORDS);
        let of = |value| Fingerprint::new().with("a", value);
        let name = |key: &str, value| Wanted::new(key, &of(value)).unwrap().name;
        assert_eq!(
            name("k", json!({"x": 1, "y": {"p": 2, "q": 3}})),
            name("k", json!({"y": {"q": 3, "p": 2}, "x": 1}))
        );
        assert_ne!(name("k", json!(1)), name("k", json!(2)));
        assert_ne!(name("k", json!(1)), name("l", json!(1)));
        assert_ne!(Name::of("a", "bc"), Name::of("ab", "c"));
    }

    const NAME_OF_WORDS: &str = "b9ee2f240e417837f28c476f09bf278f.entry";

    #[test]
    fn names_of_files_are_read_back_and_others_are_not_ours() {
        let name = Name::of("a", "{}");
        assert_eq!(Name::of_file(&name.file()), Some(name));
        assert_eq!(Name::of_lock(&name.lock()), Some(name));
        let upper = name.file().to_uppercase();
        for other in [
            "",
            ".entry",
            "00.entry",
            "CACHEDIR.TAG",
            &upper,
            &name.lock(),
        ] {
            assert_eq!(Name::of_file(other), None, "{other}");
        }
        assert_eq!(Name::of_file(&format!("+{}", &name.file()[1..])), None);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let long = "x".repeat(MAX_KEY + 1);
        for (key, fingerprint) in [
            ("", Fingerprint::new()),
            (long.as_str(), Fingerprint::new()),
            (
                "k",
                Fingerprint::new().with("a", "x".repeat(MAX_FINGERPRINT)),
            ),
        ] {
            let refused = Wanted::new(key, &fingerprint).unwrap_err();
            assert_eq!(refused.kind(), crate::ErrorKind::Invalid);
        }
    }
}
