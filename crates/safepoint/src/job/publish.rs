//! Files of an attempt: written into a private folder, moved into `out/<key>` in one step when the attempt succeeds.

use std::path::PathBuf;

use super::layout::{OUT, WORK};
use crate::disk::{self, StateDir};
use crate::error::Result;

/// The private folders of the slots. A folder that an attempt left empty serves the next one.
pub(super) struct Publisher {
    work: StateDir,
    out: StateDir,
    folders: Vec<StateDir>,
}

impl Publisher {
    /// Removes what attempts of earlier runs left, and makes a folder for each slot.
    pub(super) fn new(dir: &StateDir, slots: usize) -> Result<Self> {
        disk::remove_tree(&dir.file(WORK))?;
        let work = dir.subdir(WORK)?;
        // What is published there is to survive a power cut.
        let out = StateDir::create(&dir.file(OUT))?;
        let folders = (0..slots)
            .map(|slot| work.subdir(&slot.to_string()))
            .collect::<Result<_>>()?;
        Ok(Self { work, out, folders })
    }

    /// The folder of a slot.
    pub(super) fn folder(&self, slot: usize) -> PathBuf {
        self.folders[slot].path().to_path_buf()
    }

    /// Moves what the attempt in `slot` wrote to `out/<key>`, replacing what an earlier attempt had published there.
    ///
    /// # Durability
    ///
    /// When this returns, what was moved survives a power cut, whole.
    pub(super) fn publish(&self, slot: usize, key: &str) -> Result<()> {
        let folder = &self.folders[slot];
        if folder.is_empty()? {
            return Ok(());
        }
        folder.sync_tree()?;
        let target = self.out.file(&component(key));
        disk::swap_into(folder.path(), &target)?;
        // After a swap the folder holds what was there before; after a plain move it is gone.
        self.discard(slot)
    }

    /// Removes what the attempt in `slot` wrote.
    pub(super) fn discard(&self, slot: usize) -> Result<()> {
        let folder = &self.folders[slot];
        if folder.path().exists() {
            if folder.is_empty()? {
                return Ok(());
            }
            disk::remove_tree(folder.path())?;
        }
        self.work.subdir(&slot.to_string()).map(drop)
    }
}

/// A key as one path component: bytes other than `[A-Za-z0-9._-]` become `%XX`; a long key is cut and gets a digest.
pub fn component(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for (place, byte) in key.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_')
            || (byte == b'.' && place > 0);
        if plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > 200 {
        name.truncate(180);
        name.push_str(&format!(
            "-{:016x}",
            xxhash_rust::xxh3::xxh3_64(key.as_bytes())
        ));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_key_is_one_path_component() {
        assert_eq!(component("17"), "17");
        assert_eq!(component("../etc"), "%2E.%2Fetc");
        assert_eq!(component("."), "%2E");
        assert_eq!(component("a b/c"), "a%20b%2Fc");
        assert!(component(&"x".repeat(5000)).len() < 255);
        assert_ne!(component(&"x".repeat(5000)), component(&"x".repeat(5001)));
    }
}
