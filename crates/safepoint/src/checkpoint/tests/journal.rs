//! Small states: records of a journal are generations like any other.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{files, payload};
use crate::checkpoint::*;
use crate::error::ErrorKind;

fn save_small(store: &CheckpointStore, step: u64) -> Generation {
    let payload = payload(step, 1000, false);
    let saved = store.save_small("s", &State::bytes(&payload), &Details::new().step(step));
    saved.unwrap().generation
}

fn step_of(checkpoint: &Checkpoint) -> u64 {
    let step = checkpoint.metadata().details.step.unwrap();
    assert_eq!(checkpoint.bytes().unwrap(), payload(step, 1000, false));
    step
}

fn journal_of(path: &Path) -> Vec<String> {
    let mut files = files(&path.join("s"));
    files.retain(|name| {
        Path::new(name)
            .extension()
            .is_some_and(|ending| ending == "journal")
    });
    files
}

#[test]
fn small_states_share_a_journal_that_is_folded_when_it_is_full() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("c");
    let mut store = CheckpointStore::open(&path).unwrap();
    let mut folds = 0;
    for step in 1..=3000 {
        assert_eq!(save_small(&store, step), Generation(step));
        folds += u32::from(step > 1 && journal_of(&path).is_empty());
        if step % 487 == 0 {
            drop(store);
            store = CheckpointStore::open(&path).unwrap();
        }
        if step % 97 == 0 {
            let found = store.latest("s").unwrap().unwrap();
            assert_eq!((found.generation().0, step_of(&found)), (step, step));
            assert!(found.skipped().is_empty());
        }
    }
    assert!(
        folds >= 1,
        "3000 records of more than 1000 bytes do not fit into one journal"
    );
    let listed = store.list("s").unwrap();
    assert_eq!(
        listed.len() as u64,
        1 + u64::from(folds) + 1,
        "the files and the newest record"
    );
    assert!(listed.last().unwrap().in_journal);
    assert_eq!(step_of(&store.load("s", Generation(2999)).unwrap()), 2999);
    assert_eq!(
        store.load("s", Generation(3001)).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(store.run(), 7);
}

#[test]
fn what_is_not_small_and_the_first_become_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save_small(&store, 1);
    assert_eq!(files(&path.join("s")), ["0000000001.ckpt"]);
    save_small(&store, 2);
    assert_eq!(
        files(&path.join("s")),
        ["0000000001.ckpt", "0000000002.journal"]
    );
    let large = vec![1; MAX_SMALL + 1];
    store
        .save_small("s", &State::bytes(&large), &Details::new())
        .unwrap();
    let array = State::json(&1).unwrap().with_array("a", &[1], &[1_u8]);
    store.save_small("s", &array, &Details::new()).unwrap();
    assert_eq!(
        files(&path.join("s")),
        [
            "0000000001.ckpt",
            "0000000002.journal",
            "0000000003.ckpt",
            "0000000004.ckpt"
        ]
    );
    assert_eq!(save_small(&store, 5), Generation(5));
    assert_eq!(step_of(&store.latest("s").unwrap().unwrap()), 5);
}

/// A store with a file of generation 1 and records of generations 2 to `last`, and where the records begin.
fn with_records(path: &Path, last: u64) -> Vec<usize> {
    let store = CheckpointStore::open(path).unwrap();
    for step in 1..=last {
        save_small(&store, step);
    }
    let bytes = fs::read(path.join("s/0000000002.journal")).unwrap();
    (0..bytes.len())
        .step_by(64)
        .filter(|at| bytes[*at..].starts_with(b"\xABsp-rec\n"))
        .collect()
}

fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
}

#[test]
fn a_torn_last_record_is_told_and_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let records = with_records(&path, 5);
    let journal = path.join("s/0000000002.journal");
    let end = records[3] + (records[3] - records[2]);
    for (cut, expected) in [(40, 5), (700, 5), (end - records[3] - 64, 5)] {
        let whole = fs::read(&journal).unwrap();
        overwrite(&journal, records[3] + cut, &vec![0; end - records[3] - cut]);
        let reader = CheckpointReader::open(&path).unwrap();
        let found = reader.latest("s").unwrap().unwrap();
        assert_eq!(step_of(&found), 4);
        assert_eq!(found.skipped()[0].generation, Generation(expected));
        assert!(
            found.skipped()[0].why.contains("not whole"),
            "{}",
            found.skipped()[0]
        );
        assert!(
            reader
                .validate("s")
                .unwrap()
                .iter()
                .any(|one| one.outcome.is_err())
        );
        fs::write(&journal, whole).unwrap();
    }
    overwrite(&journal, records[3] + 700, &[0; 64]);
    let store = CheckpointStore::open(&path).unwrap();
    assert_eq!(step_of(&store.latest("s").unwrap().unwrap()), 4);
    let next = save_small(&store, 6);
    assert!(
        next > Generation(5),
        "the number of the torn record is not used again"
    );
    assert!(journal_of(&path).is_empty(), "the torn journal was folded");
    let aside = files(&path.join("s/quarantine"));
    assert_eq!(
        aside,
        ["0000000002.journal"],
        "and kept for whoever can make use of it"
    );
    assert!(store.latest("s").unwrap().unwrap().skipped().is_empty());
}

#[test]
fn a_damaged_record_hides_none_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let records = with_records(&path, 5);
    let journal = path.join("s/0000000002.journal");
    overwrite(&journal, records[1] + 16, &[0xFF; 200]);
    let store = CheckpointStore::open(&path).unwrap();
    let found = store.latest("s").unwrap().unwrap();
    assert_eq!(step_of(&found), 5);
    assert!(found.skipped().is_empty());
    assert!(store.load("s", Generation(3)).is_err());
    assert_eq!(save_small(&store, 6), Generation(6));
    assert_eq!(step_of(&store.latest("s").unwrap().unwrap()), 6);
}

#[test]
fn every_flipped_bit_of_the_newest_record_is_found() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    for value in ["first", "second"] {
        store
            .save_small("s", &State::bytes(value.as_bytes()), &Details::new())
            .unwrap();
    }
    drop(store);
    let journal = path.join("s/0000000002.journal");
    let whole = fs::read(&journal).unwrap();
    let last = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let reader = CheckpointReader::open(&path).unwrap();
    for bit in (128 * 8..(last + 1) * 8).step_by(3) {
        overwrite(&journal, bit / 8, &[whole[bit / 8] ^ (1 << (bit % 8))]);
        let found = reader.latest("s").unwrap().unwrap();
        assert_eq!(found.bytes(), Some(&b"first"[..]), "bit {bit}");
        assert_eq!(found.skipped().len(), 1, "bit {bit}");
        overwrite(&journal, bit / 8, &[whole[bit / 8]]);
    }
    assert_eq!(
        reader.latest("s").unwrap().unwrap().bytes(),
        Some(&b"second"[..])
    );
}

#[test]
fn damage_in_a_journal_is_told_also_where_a_newer_file_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save_small(&store, 1);
    save_small(&store, 2);
    super::save(&store, "s", 3, 1000);
    assert_eq!(save_small(&store, 4), Generation(4));
    drop(store);
    let journal = path.join("s/0000000002.journal");
    let whole = fs::read(&journal).unwrap();
    let last = whole.iter().rposition(|byte| *byte != 0).unwrap();
    overwrite(&journal, last, &[whole[last] ^ 1]);
    let store = CheckpointStore::open(&path).unwrap();
    let found = store.latest("s").unwrap().unwrap();
    assert_eq!(step_of(&found), 3);
    assert_eq!(
        found.skipped().len(),
        1,
        "an acknowledged generation is gone, and that is said"
    );
    assert!(
        save_small(&store, 5) > Generation(4),
        "its number is not used again"
    );
}

#[test]
fn records_behind_a_damaged_header_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    with_records(&path, 5);
    overwrite(&path.join("s/0000000002.journal"), 3, b"?");
    let store = CheckpointStore::open(&path).unwrap();
    let found = store.latest("s").unwrap().unwrap();
    assert_eq!((step_of(&found), found.skipped().len()), (5, 1));
    save_small(&store, 6);
    assert_eq!(files(&path.join("s/quarantine")), ["0000000002.journal"]);
}

#[test]
fn what_is_pinned_becomes_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save_small(&store, 1);
    save_small(&store, 2);
    let pinned = Details::new().step(3).pinned();
    store
        .save_small("s", &State::bytes(b"best"), &pinned)
        .unwrap();
    assert!(files(&path.join("s")).contains(&"0000000003.ckpt".to_owned()));
}
