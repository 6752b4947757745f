//! The store on a real disk.
#![expect(
    clippy::disallowed_methods,
    reason = "what damages files must be able to write them plainly"
)]

mod background;
mod chosen;
mod damage;
mod export;
mod hostile;
mod journal;
mod saving;

use std::path::Path;

use super::{CheckpointStore, Details, Saved, State};

/// A state of `bytes` bytes that belongs to `step`, and that compresses only where asked for.
pub(super) fn payload(step: u64, bytes: usize, compressible: bool) -> Vec<u8> {
    let mut seed = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    };
    let fill = next();
    let mut payload = Vec::with_capacity(bytes + 8);
    while payload.len() < bytes {
        payload.extend_from_slice(&if compressible { fill } else { next() });
    }
    payload.truncate(bytes);
    payload
}

fn save(store: &CheckpointStore, name: &str, step: u64, bytes: usize) -> Saved {
    let payload = payload(step, bytes, false);
    store
        .save(name, &State::bytes(&payload), &Details::new().step(step))
        .unwrap()
}

fn files(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
