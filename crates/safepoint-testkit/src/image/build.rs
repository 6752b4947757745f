//! Chooses what is left at a cut and puts it together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::history::{Change, History, Life, NameChange, Object};
use super::{Entry, Image, Names, Policy};
use crate::random::Random;

const SECTOR: u64 = 512;

pub(super) fn image(history: &History, cut: usize, policy: Policy) -> Image {
    let mut random = Random::new(match policy {
        Policy::Torn { seed, .. } => seed ^ cut as u64,
        _ => 0,
    });
    let names = names(history, cut, policy, &mut random);
    let mut contents = BTreeMap::new();
    for object in names.values().copied().collect::<BTreeSet<_>>() {
        let life = &history.lives[object];
        let entry = if life.directory {
            Entry::Directory
        } else {
            Entry::File(content(life, cut, policy, &mut random))
        };
        contents.insert(object, entry);
    }
    // A name whose directory is lost is lost with it; parents come before children here.
    let mut image = Image::default();
    for (path, object) in names {
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() || image.entries.get(parent) == Some(&Entry::Directory) {
            image.entries.insert(path, contents[&object].clone());
        }
    }
    image
}

fn names(
    history: &History,
    cut: usize,
    policy: Policy,
    random: &mut Random,
) -> BTreeMap<PathBuf, Object> {
    let happened: Vec<_> = history
        .names
        .iter()
        .take_while(|(number, ..)| *number < cut)
        .collect();
    let kept: Vec<bool> = match policy {
        Policy::KeepAll => vec![true; happened.len()],
        Policy::DropUnsynced(names) => durable_names(history, cut, names),
        Policy::Torn { names, .. } => {
            let mut kept = durable_names(history, cut, names);
            let upto = usize::try_from(random.below(kept.len() as u64 + 1)).unwrap_or(0);
            kept[..upto].fill(true);
            kept
        }
    };
    let mut live = BTreeMap::new();
    for (_, _, change) in happened
        .into_iter()
        .zip(kept)
        .filter_map(|(change, kept)| kept.then_some(change))
    {
        match change {
            NameChange::Add { path, object } => drop(live.insert(path.clone(), *object)),
            NameChange::Remove { path } => drop(live.remove(path)),
            NameChange::Move { from, to, object } => {
                move_name(&mut live, from, to);
                live.insert(to.clone(), *object);
            }
        }
    }
    live
}

/// For each change of a name before the cut, whether it is durable there. Children come after their parents in
/// time, so that going backwards a directory is seen after what made it durable.
fn durable_names(history: &History, cut: usize, names: Names) -> Vec<bool> {
    let mut holds = BTreeSet::new();
    let mut kept = Vec::new();
    let happened = history.names.partition_point(|(number, ..)| *number < cut);
    for (number, parent, change) in history.names[..happened].iter().rev() {
        let mut durable = *number < history.lives[*parent].durable(cut);
        if let (Names::FileSync, NameChange::Add { object, .. }) = (names, change) {
            durable |= *number < history.lives[*object].durable(cut) || holds.contains(object);
        }
        if durable {
            holds.insert(*parent);
        }
        kept.push(durable);
    }
    kept.reverse();
    kept
}

fn content(life: &Life, cut: usize, policy: Policy, random: &mut Random) -> Vec<u8> {
    let durable = life.durable(cut);
    let mut file = Vec::new();
    for (number, change) in life.changes.iter().take_while(|(number, _)| *number < cut) {
        let certain = *number < durable || policy == Policy::KeepAll;
        if !certain && matches!(policy, Policy::DropUnsynced(_)) {
            break;
        }
        match (change, certain) {
            (Change::Write { offset, bytes }, true) => write(&mut file, *offset, bytes),
            (Change::Write { offset, bytes }, false) => {
                write(
                    &mut file,
                    *offset,
                    &bytes[..torn(*offset, bytes.len(), random)],
                );
            }
            (Change::Truncate { size }, certain) => {
                if certain || random.below(2) == 0 {
                    file.resize(position(*size), 0);
                }
            }
        }
    }
    file
}

/// How much of an unsynced write is left: all, nothing, or up to the end of one of its sectors.
fn torn(offset: u64, length: usize, random: &mut Random) -> usize {
    match random.below(3) {
        0 => 0,
        1 => length,
        _ => {
            let ends = (offset + length as u64) / SECTOR - offset / SECTOR;
            let end = (offset / SECTOR + random.below(ends + 1)) * SECTOR;
            position(end.saturating_sub(offset)).min(length)
        }
    }
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (position(offset), position(offset) + bytes.len());
    if !bytes.is_empty() && file.len() < end {
        file.resize(end, 0);
    }
    if !bytes.is_empty() {
        file[start..end].copy_from_slice(bytes);
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Moves a name, and all below it when it is a directory's.
pub(super) fn move_name(live: &mut BTreeMap<PathBuf, Object>, from: &Path, to: &Path) {
    let moved: Vec<_> = live
        .keys()
        .filter(|path| path.starts_with(from))
        .cloned()
        .collect();
    for path in moved {
        let object = live.remove(&path);
        let tail = path.strip_prefix(from).unwrap_or(Path::new(""));
        let new = if tail.as_os_str().is_empty() {
            to.to_owned()
        } else {
            to.join(tail)
        };
        live.extend(object.map(|object| (new, object)));
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
