//! A cache on a real disk, in one process; `tests/cache.rs` has several.
#![expect(
    clippy::disallowed_methods,
    reason = "what damages and ages entries must be able to write them plainly"
)]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, SystemTime};

use super::place::TAG;
use super::*;

type Notices = Arc<Mutex<Vec<Notice>>>;

fn of(version: u32) -> Fingerprint {
    Fingerprint::new().with("corpus", version)
}

fn cache(path: &Path) -> (Cache, Notices) {
    with(Cache::builder(path))
}

fn with(builder: CacheBuilder) -> (Cache, Notices) {
    let notices = Notices::default();
    let heard = Arc::clone(&notices);
    let tell = move |notice: &Notice| heard.lock().unwrap().push(notice.clone());
    (builder.on_notice(tell).open().unwrap(), notices)
}

/// The value for a key, and whether it was computed.
fn ask(cache: &Cache, key: &str, version: u32) -> (String, bool) {
    let computed = Cell::new(false);
    let value = cache.get_or_try_insert_with(key, &of(version), || {
        computed.set(true);
        Ok::<_, Error>(format!("{key} of {version}"))
    });
    (value.unwrap(), computed.get())
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path).unwrap();
    let mut paths: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "entry"))
        .collect();
    paths.sort();
    paths
}

fn path_of(cache: &Cache, key: &str, version: u32) -> PathBuf {
    cache
        .place
        .entry(&Wanted::new(key, &of(version)).unwrap().name)
}

/// Says that an entry was used some hours ago.
fn used_hours_ago(path: &Path, hours: u64) {
    let when = SystemTime::now() - Duration::from_secs(3600 * hours);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(when).unwrap();
}

#[test]
fn a_value_is_computed_once_for_each_key_and_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let (first, _) = cache(&path);
    assert_eq!(ask(&first, "a", 1), ("a of 1".into(), true));
    assert_eq!(ask(&first, "a", 1), ("a of 1".into(), false));
    assert_eq!(ask(&first, "a", 2), ("a of 2".into(), true));
    assert_eq!(ask(&first, "b/ä\n", 1), ("b/ä\n of 1".into(), true));
    // By another, later.
    let (second, notices) = cache(&path);
    assert_eq!(ask(&second, "a", 2), ("a of 2".into(), false));
    assert_eq!(entries(&path).len(), 3);
    assert!(notices.lock().unwrap().is_empty());
    let statistics = first.statistics();
    assert_eq!((statistics.hits, statistics.computed), (1, 3));
    assert!(fs::read_dir(path.join("locks")).unwrap().next().is_none());
}

#[test]
fn arrays_and_bytes_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, notices) = cache(folder.path());
    let floats: Vec<f32> = (0..3_000_000_u32).map(f32::from_bits).collect();
    let bits = |floats: &[f32]| {
        floats
            .iter()
            .map(|float| float.to_bits())
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let got =
            cache.get_array_or_try_insert_with("floats", &of(1), || Ok::<_, Error>(floats.clone()));
        assert_eq!(bits(&got.unwrap()), bits(&floats));
        let got = cache
            .get_array_or_try_insert_with("bytes", &of(1), || Ok::<_, Error>(b"\0\xff".to_vec()));
        assert_eq!(got.unwrap(), b"\0\xff");
        let got =
            cache.get_array_or_try_insert_with::<u64, Error>("none", &of(1), || Ok(Vec::new()));
        assert!(got.unwrap().is_empty());
    }
    assert_eq!(cache.statistics().computed, 3);
    assert!(notices.lock().unwrap().is_empty());
}

#[test]
fn eight_threads_at_once_compute_once() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(folder.path());
    let (computed, together) = (AtomicU32::new(0), Barrier::new(8));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                together.wait();
                let value = cache.get_or_try_insert_with("a", &of(1), || {
                    computed.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, Error>(7)
                });
                assert_eq!(value.unwrap(), 7);
            });
        }
    });
    assert_eq!(computed.into_inner(), 1);
    assert_eq!(cache.statistics().hits, 7);
}

#[test]
fn an_error_or_a_panic_is_not_kept_and_the_next_one_computes() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(folder.path());
    let failed = cache
        .get_or_try_insert_with::<u32, Error>("a", &of(1), || Err(Error::invalid("no corpus")));
    assert_eq!(failed.unwrap_err().to_string(), "no corpus");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.get_or_try_insert_with::<u32, Error>("a", &of(1), || panic!("in the caller's code"))
    }));
    assert!(panicked.is_err());
    assert!(entries(folder.path()).is_empty());
    assert!(
        fs::read_dir(folder.path().join("locks"))
            .unwrap()
            .next()
            .is_none()
    );
    assert_eq!(ask(&cache, "a", 1), ("a of 1".into(), true));
}

#[test]
fn an_entry_is_made_from_others_but_not_from_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(folder.path());
    let outer = cache.get_or_try_insert_with("outer", &of(1), || {
        let (inner, _) = ask(&cache, "inner", 1);
        Ok::<_, Error>(format!("from {inner}"))
    });
    assert_eq!(outer.unwrap(), "from inner of 1");
    let itself = cache.get_or_try_insert_with("itself", &of(1), || {
        cache.get_or_try_insert_with::<u32, Error>("itself", &of(1), || Ok(1))
    });
    let refused = itself.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("`itself`"), "{refused}");
    assert_eq!(ask(&cache, "itself", 1), ("itself of 1".into(), true));
}

#[test]
fn a_damaged_entry_is_computed_anew_and_told_whichever_bit_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, notices) = cache(folder.path());
    ask(&cache, "a", 1);
    let path = path_of(&cache, "a", 1);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[whole[at] ^ 1 << (at % 8)], at as u64)
            .unwrap();
        let found: Vec<_> = cache.validate().unwrap();
        assert!(found[0].outcome.is_err(), "byte {at} of {}", whole.len());
        assert_eq!(ask(&cache, "a", 1), ("a of 1".into(), true), "byte {at}");
        match notices.lock().unwrap().drain(..).as_slice() {
            [
                Notice::ComputedAnew {
                    key, path: told, ..
                },
            ] => {
                assert_eq!((key.as_str(), told), ("a", &path));
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(ask(&cache, "a", 1), ("a of 1".into(), false));
        // What was computed anew has other times in it.
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(cache.statistics().computed_anew, whole.len() as u64);
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(ask(&cache, "a", 1), ("a of 1".into(), true));
}

#[test]
fn a_value_of_another_type_is_computed_anew_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, notices) = cache(folder.path());
    ask(&cache, "a", 1);
    let number = cache.get_or_try_insert_with("a", &of(1), || Ok::<_, Error>(7_u32));
    assert_eq!(number.unwrap(), 7);
    let array = cache.get_array_or_try_insert_with("a", &of(1), || Ok::<_, Error>(vec![1_u8]));
    assert_eq!(array.unwrap(), [1]);
    let wider = cache.get_array_or_try_insert_with("a", &of(1), || Ok::<_, Error>(vec![1_u64]));
    assert_eq!(wider.unwrap(), [1]);
    assert_eq!(notices.lock().unwrap().len(), 3);
    let again = cache.get_array_or_try_insert_with("a", &of(1), || Ok::<_, Error>(vec![2_u64]));
    assert_eq!(again.unwrap(), [1]);
}

/// As if the hash of both were the same.
#[test]
fn an_entry_of_another_key_under_our_name_is_never_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(folder.path());
    ask(&cache, "a", 1);
    let ours = path_of(&cache, "b", 1);
    fs::rename(path_of(&cache, "a", 1), &ours).unwrap();
    let found = cache.validate().unwrap();
    assert_eq!(
        found[0].outcome.as_ref().unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(ask(&cache, "b", 1), ("b of 1".into(), true));
    assert_eq!(ask(&cache, "b", 1), ("b of 1".into(), false));
    let other_fingerprint = path_of(&cache, "b", 2);
    fs::rename(&ours, &other_fingerprint).unwrap();
    assert_eq!(ask(&cache, "b", 2), ("b of 2".into(), true));
}

/// A fingerprint in a file is text: its numbers must be the same when they are read again.
#[test]
fn fingerprints_with_floats_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(folder.path());
    for rate in [0.958_327_592_195_351_1, 1e-3, 1e300, 0.1 + 0.2] {
        let of = Fingerprint::new().with("rate", rate);
        for _ in 0..2 {
            cache
                .get_or_try_insert_with("a", &of, || Ok::<_, Error>(1))
                .unwrap();
        }
    }
    assert_eq!(cache.statistics().computed, 4);
}

#[test]
fn what_was_not_used_for_the_longest_time_goes_first_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let value = |number: u8| crate::checkpoint::tests::payload(number.into(), 10_000, false);
    let insert = |cache: &Cache, number: u8| {
        let key = format!("entry {number}");
        let got =
            cache.get_array_or_try_insert_with(&key, &of(1), || Ok::<_, Error>(value(number)));
        assert_eq!(got.unwrap(), value(number));
    };
    let has = |cache: &Cache| -> Vec<u8> {
        (0..9)
            .filter(|number| path_of(cache, &format!("entry {number}"), 1).exists())
            .collect()
    };
    let open = || with(Cache::builder(folder.path()).at_most_bytes(50_000)).0;
    let first = open();
    for number in 0..4 {
        insert(&first, number);
        let path = path_of(&first, &format!("entry {number}"), 1);
        used_hours_ago(&path, 10 - u64::from(number));
    }
    assert_eq!(has(&first), [0, 1, 2, 3]);
    let second = open();
    insert(&second, 0); // a hit: now 1 is the oldest
    assert_eq!(second.statistics().hits, 1);
    insert(&second, 4);
    assert_eq!(
        has(&second),
        [0, 2, 3, 4],
        "the limit and a sixteenth below it"
    );
    insert(&second, 5);
    assert_eq!(has(&second), [0, 3, 4, 5]);
    assert_eq!(second.statistics().evicted, 2);
    let total: u64 = second
        .list()
        .unwrap()
        .iter()
        .map(|entry| entry.file_bytes)
        .sum();
    assert!(total <= 50_000, "{total}");

    // One that is too large for all of it drives nobody out.
    let large = crate::checkpoint::tests::payload(9, 60_000, false);
    let (third, notices) = with(Cache::builder(folder.path()).at_most_bytes(50_000));
    let got = third.get_array_or_try_insert_with("large", &of(1), || Ok::<_, Error>(large.clone()));
    assert_eq!(got.unwrap(), large);
    assert_eq!(has(&third), [0, 3, 4, 5]);
    assert!(matches!(
        notices.lock().unwrap().as_slice(),
        [Notice::NotKept { .. }]
    ));
    assert_eq!(third.statistics().not_kept, 1);
}

#[test]
fn a_value_that_cannot_be_kept_or_locked_is_returned_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, notices) = cache(folder.path());
    // Not even root can write a file there.
    fs::create_dir(path_of(&cache, "a", 1)).unwrap();
    assert_eq!(ask(&cache, "a", 1), ("a of 1".into(), true));
    let told = std::mem::take(&mut *notices.lock().unwrap());
    let [Notice::ComputedAnew { .. }, Notice::NotKept { key, .. }] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(key, "a");
    fs::remove_dir(folder.path().join("locks")).unwrap();
    assert_eq!(ask(&cache, "b", 1), ("b of 1".into(), true));
    let told = std::mem::take(&mut *notices.lock().unwrap());
    assert!(
        matches!(told.as_slice(), [Notice::NotLocked { .. }]),
        "{told:?}"
    );
    assert_eq!(ask(&cache, "b", 1), ("b of 1".into(), false));
    // A value that has no form in MessagePack.
    let struct_of_unknown_length = Unwritable;
    let got =
        cache.get_or_try_insert_with("c", &of(1), || Ok::<_, Error>(struct_of_unknown_length));
    assert!(got.is_ok());
    assert_eq!(cache.statistics().not_kept, 2);
}

#[derive(serde::Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it has no form"))
    }
}

#[test]
fn entries_are_listed_checked_removed_and_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(folder.path());
    for (hours, key, version) in [(3, "b", 1), (2, "a", 1), (1, "a", 2)] {
        ask(&cache, key, version);
        used_hours_ago(&path_of(&cache, key, version), hours);
    }
    let listed = cache.list().unwrap();
    let keys = listed.iter().map(|entry| entry.details.as_ref().unwrap());
    let keys: Vec<_> = keys
        .map(|details| (details.key.as_str(), &details.fingerprint))
        .collect();
    assert_eq!(keys, [("b", &of(1)), ("a", &of(1)), ("a", &of(2))]);
    assert!(
        cache
            .validate()
            .unwrap()
            .iter()
            .all(|found| found.outcome.is_ok())
    );

    let removed = cache.remove("a").unwrap();
    assert_eq!(removed.entries, 2);
    assert_eq!(ask(&cache, "b", 1), ("b of 1".into(), false));
    fs::write(path_of(&cache, "b", 1), "damaged").unwrap();
    assert!(cache.list().unwrap()[0].details.is_err());
    fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
    let cleared = cache.clear().unwrap();
    assert_eq!((cleared.entries, cleared.file_bytes), (1, 7));
    let mut left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, [TAG, "locks", "notes.txt"]);
    assert_eq!(ask(&cache, "b", 1), ("b of 1".into(), true));
}

#[test]
fn only_an_empty_directory_becomes_a_cache_and_a_newer_one_is_refused_by_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("project");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("main.rs"), "").unwrap();
    let refused = Cache::open(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("main.rs"), "{refused}");
    let refused = Cache::builder(&path).open_existing().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let refused = Cache::builder(folder.path().join("none")).open_existing();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);

    let path = folder.path().join("cache");
    Cache::open(&path).unwrap();
    Cache::builder(&path).open_existing().unwrap();
    let tag = fs::read_to_string(path.join(TAG)).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    fs::write(path.join(TAG), tag.replace("format 1", "format 2")).unwrap();
    for refused in [Cache::open(&path), Cache::builder(&path).open_existing()] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Incompatible);
    }
}

#[test]
fn what_killed_processes_left_is_removed_and_what_live_ones_have_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(folder.path());
    let left = |key: &str| {
        let name = Wanted::new(key, &of(1)).unwrap().name;
        let lock = cache.place.lock(&name);
        let file = folder.path().join(format!(".{}.77.new", name.file()));
        fs::write(&lock, "").unwrap();
        fs::write(&file, "half").unwrap();
        (lock, file)
    };
    let (dead_lock, dead_file) = left("dead");
    let (live_lock, live_file) = left("live");
    let alive = LockFile::wait(&live_lock).unwrap();
    Cache::open(folder.path()).unwrap();
    assert!(!dead_lock.exists() && !dead_file.exists());
    assert!(live_lock.exists() && live_file.exists());
    drop(alive);
    assert!(!live_lock.exists());
}

#[test]
fn an_entry_that_is_removed_while_it_is_read_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(folder.path());
    let stop = AtomicU32::new(0);
    let value: Vec<u64> = (0..300_000).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while stop.load(Ordering::Relaxed) == 0 {
                cache.clear().unwrap();
            }
        });
        for _ in 0..50 {
            let got =
                cache.get_array_or_try_insert_with("a", &of(1), || Ok::<_, Error>(value.clone()));
            assert!(got.unwrap() == value);
        }
        stop.store(1, Ordering::Relaxed);
    });
    assert_eq!(cache.statistics().computed_anew, 0);
}

/// Asks in two moves.
fn claim(cache: &Cache, key: &str) -> Claimed {
    cache.claim(key, &of(1), |_| Ok(Vec::new())).unwrap()
}

#[test]
fn an_entry_is_claimed_by_one_and_kept_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(&folder.path().join("cache"));
    let Claimed::Ours(ours) = claim(&cache, "words") else {
        panic!("nobody else has it")
    };
    assert!(matches!(claim(&cache, "words"), Claimed::Theirs));
    // Another key is nobody's.
    assert!(matches!(claim(&cache, "tokens"), Claimed::Ours(_)));
    // A claim that came to nothing is free again, also from another thread.
    std::thread::spawn(move || drop(ours)).join().unwrap();
    let Claimed::Ours(ours) = claim(&cache, "words") else {
        panic!("it was given back")
    };
    cache.keep_claimed(ours, &State::new().with_array("x", &[2], &[1.0, 2.0]));
    let Claimed::Kept(kept) = claim(&cache, "words") else {
        panic!("it was kept")
    };
    assert_eq!(*kept.array::<f64>("x").unwrap(), [1.0, 2.0]);
    let statistics = cache.statistics();
    assert_eq!((statistics.computed, statistics.hits), (1, 1));
}

#[test]
fn a_claim_waits_for_nobody_and_keeps_other_ways_of_asking_out() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = cache(&folder.path().join("cache"));
    // As another process has it.
    let name = Wanted::new("words", &of(1)).unwrap().name;
    let theirs = LockFile::wait(&cache.place.lock(&name)).unwrap();
    assert!(matches!(claim(&cache, "words"), Claimed::Theirs));
    drop(theirs);
    let Claimed::Ours(ours) = claim(&cache, "words") else {
        panic!("it is free")
    };
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&cache, "words", 1));
        cache.keep_claimed(ours, &State::message_pack("from the claim").unwrap());
        assert_eq!(asked.join().unwrap(), ("from the claim".to_owned(), false));
    });
}

#[test]
fn a_damaged_entry_is_claimed_anew_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, notices) = cache(&folder.path().join("cache"));
    ask(&cache, "words", 1);
    let path = path_of(&cache, "words", 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[130] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(claim(&cache, "words"), Claimed::Ours(_)));
    let heard = notices.lock().unwrap();
    assert!(
        matches!(heard.as_slice(), [Notice::ComputedAnew { .. }]),
        "{heard:?}"
    );
}
