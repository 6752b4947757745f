//! What is damaged is found, told, and never taken for nothing.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{files, payload, save};
use crate::checkpoint::*;
use crate::error::ErrorKind;

fn generation_path(folder: &Path, name: &str, generation: u64) -> PathBuf {
    folder.join(name).join(format!("{generation:010}.ckpt"))
}

fn flip(path: &Path, bit: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, bit / 8).unwrap();
}

#[test]
fn every_flipped_bit_of_a_small_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    let array = [0.5_f32; 9];
    let text = payload(1, 700, true);
    let state = State::bytes(&text).with_array("w", &[3, 3], &array);
    store.save("m", &state, &Details::new().step(1)).unwrap();
    let file = generation_path(&path, "m", 1);
    let bits = fs::metadata(&file).unwrap().len() * 8;
    for bit in 0..bits {
        flip(&file, bit);
        let found = store.load("m", Generation(1)).expect_err("a flipped bit");
        // Also a flip that makes the header's version a newer one: the trailer knows better.
        assert_eq!(
            found.kind(),
            ErrorKind::Corrupt,
            "bit {bit}: {}",
            found.chain()
        );
        flip(&file, bit);
    }
    assert_eq!(
        store.load("m", Generation(1)).unwrap().bytes().unwrap(),
        text
    );
}

#[test]
fn a_thousand_flipped_bits_of_a_large_file_are_each_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    let bytes = [payload(3, 5 << 20, false), payload(4, 5 << 20, true)].concat();
    store
        .save("m", &State::bytes(&bytes), &Details::new())
        .unwrap();
    let file = generation_path(&path, "m", 1);
    let bits = fs::metadata(&file).unwrap().len() * 8;
    let mut seed = 0x5EED_u64;
    for _ in 0..1000 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bit = (seed >> 11) % bits;
        flip(&file, bit);
        assert_eq!(
            store.load("m", Generation(1)).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "bit {bit}"
        );
        flip(&file, bit);
    }
    assert!(store.load("m", Generation(1)).is_ok());
}

#[test]
fn a_file_cut_anywhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save(&store, "m", 1, 500);
    let file = generation_path(&path, "m", 1);
    let whole = fs::read(&file).unwrap();
    for length in 0..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        assert_eq!(
            store.load("m", Generation(1)).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{length}"
        );
    }
    fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    assert_eq!(
        store.load("m", Generation(1)).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn a_damaged_newest_generation_is_passed_over_told_put_aside_and_its_number_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let told = Arc::new(Mutex::new(Vec::new()));
    let store = {
        let told = Arc::clone(&told);
        CheckpointStore::builder(&path)
            .on_notice(move |notice| told.lock().unwrap().push(notice.to_string()))
            .open()
            .unwrap()
    };
    for step in 1..=3 {
        save(&store, "m", step, 5000);
    }
    flip(&generation_path(&path, "m", 3), 8 * 1000);
    flip(&generation_path(&path, "m", 2), 8 * 3);
    let reader = CheckpointReader::open(&path).unwrap();
    let read = reader.latest("m").unwrap().unwrap();
    assert_eq!(
        (read.generation(), read.skipped().len()),
        (Generation(1), 2)
    );
    assert!(
        read.skipped()
            .iter()
            .all(|skipped| skipped.quarantined.is_none()),
        "a reader moves nothing"
    );

    let found = store.latest("m").unwrap().unwrap();
    assert_eq!(found.generation(), Generation(1));
    assert_eq!(found.bytes().unwrap(), payload(1, 5000, false));
    let [third, second] = found.skipped() else {
        panic!("{:?}", found.skipped())
    };
    assert_eq!(
        (third.generation, second.generation),
        (Generation(3), Generation(2))
    );
    assert!(third.why.contains("frame 0 fails its checksum"), "{third}");
    assert!(third.quarantined.as_ref().unwrap().exists());
    assert_eq!(told.lock().unwrap().len(), 2);
    assert_eq!(files(&path.join("m")), ["0000000001.ckpt", "quarantine"]);
    assert!(store.latest("m").unwrap().unwrap().skipped().is_empty());
    drop(store);
    let store = CheckpointStore::open(&path).unwrap();
    assert_eq!(save(&store, "m", 4, 10).generation, Generation(4));
}

#[test]
fn all_damaged_is_corrupt_and_nothing_is_moved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save(&store, "m", 1, 100);
    save(&store, "m", 2, 100);
    for generation in [1, 2] {
        fs::write(generation_path(&path, "m", generation), b"").unwrap();
    }
    let refused = store.latest("m").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.to_string().contains("2 of 2"), "{refused}");
    assert!(refused.hint().is_some());
    assert_eq!(
        files(&path.join("m")),
        ["0000000001.ckpt", "0000000002.ckpt"]
    );
    // Nor is it nothing once they were put aside.
    save(&store, "m", 3, 100);
    assert_eq!(store.latest("m").unwrap().unwrap().skipped().len(), 0);
    fs::write(generation_path(&path, "m", 3), b"").unwrap();
    fs::rename(path.join("m"), path.join("moved")).unwrap();
    fs::create_dir_all(path.join("m/quarantine")).unwrap();
    fs::rename(
        path.join("moved/0000000003.ckpt"),
        path.join("m/quarantine/0000000003.ckpt"),
    )
    .unwrap();
    assert_eq!(store.latest("m").unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_newer_format_is_refused_by_kind_and_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save(&store, "m", 1, 100);
    save(&store, "m", 2, 100);
    let file = generation_path(&path, "m", 2);
    let newer = String::from_utf8_lossy(&fs::read(&file).unwrap()[..128])
        .replace("\"version\":1", "\"version\":2");
    fs::write(&file, format!("{newer}and an end that only the newer program knows, longer than a trailer of this one is")).unwrap();
    assert_eq!(
        store.latest("m").unwrap_err().kind(),
        ErrorKind::Incompatible
    );
}

#[test]
fn a_file_under_another_number_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save(&store, "m", 1, 100);
    fs::copy(
        generation_path(&path, "m", 1),
        generation_path(&path, "m", 9),
    )
    .unwrap();
    let found = store.latest("m").unwrap().unwrap();
    assert_eq!(found.generation(), Generation(1));
    assert!(
        found.skipped()[0]
            .why
            .contains("it says that it is generation 1")
    );
}

#[test]
fn links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save(&store, "m", 1, 100);
    std::os::unix::fs::symlink(
        generation_path(&path, "m", 1),
        generation_path(&path, "m", 2),
    )
    .unwrap();
    assert_eq!(
        store.latest("m").unwrap().unwrap().generation(),
        Generation(1)
    );
    assert!(store.load("m", Generation(2)).is_err());
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(
        CheckpointReader::open(&link).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn validate_names_each_damaged_generation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    for step in 1..=3 {
        save(&store, "m", step, 5000);
    }
    flip(&generation_path(&path, "m", 2), 8 * 1000);
    let outcomes: Vec<_> = store
        .validate("m")
        .unwrap()
        .iter()
        .map(|one| one.outcome.as_ref().ok().copied())
        .collect();
    assert_eq!(outcomes, [Some(5000), None, Some(5000)]);
}
