//! What is saved is what is loaded.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::{files, payload, save};
use crate::checkpoint::*;
use crate::error::ErrorKind;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Progress {
    epoch: u32,
    losses: Vec<f64>,
    note: Option<String>,
}

#[test]
fn values_of_every_encoding_and_size_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path().join("c")).unwrap();
    let progress = Progress {
        epoch: 3,
        losses: vec![0.1, f64::MIN_POSITIVE, 1e300],
        note: None,
    };
    for state in [State::json(&progress), State::message_pack(&progress)] {
        store
            .save("value", &state.unwrap(), &Details::new())
            .unwrap();
        let found = store.latest("value").unwrap().unwrap();
        assert_eq!(found.value::<Progress>().unwrap(), progress);
        assert_eq!(
            found.value::<u32>().unwrap_err().kind(),
            ErrorKind::Incompatible
        );
    }
    let frame = 2 << 20;
    for bytes in [
        0,
        1,
        1000,
        256 << 10,
        (256 << 10) + 1,
        frame - 1,
        frame,
        frame + 1,
        5 * frame + 77,
    ] {
        for compressible in [false, true] {
            let payload = payload(bytes as u64, bytes, compressible);
            let saved = store
                .save("bytes", &State::bytes(&payload), &Details::new())
                .unwrap();
            let found = store.latest("bytes").unwrap().unwrap();
            assert_eq!(found.bytes().unwrap(), payload);
            assert_eq!(found.generation(), saved.generation);
            assert!(found.skipped().is_empty());
            let small = saved.file_bytes < bytes as u64 / 2;
            assert_eq!(
                small,
                compressible && bytes > 1000,
                "{bytes} {compressible}: {}",
                saved.file_bytes
            );
        }
    }
}

/// A quick parser of decimal numbers is off by one bit for one in ten of these.
#[test]
fn floats_come_back_bit_for_bit_in_states_metrics_and_fingerprints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let mut seed = 7_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        f64::from_bits((1023 << 52) | (seed >> 12)) - 1.0
    };
    let losses: Vec<f64> = std::iter::once(0.958_327_592_195_351_1)
        .chain(std::iter::repeat_with(&mut next).take(1000))
        .collect();
    let of = Fingerprint::new().with("rates", losses.clone());
    let open = || {
        CheckpointStore::builder(&path)
            .fingerprint(of.clone())
            .open()
    };
    let details = Details::new().metric("loss", losses[0]);
    let state = State::json(&losses).unwrap();
    open().unwrap().save("m", &state, &details).unwrap();
    let found = open().unwrap().latest("m").unwrap().unwrap();
    assert_eq!(found.value::<Vec<f64>>().unwrap(), losses);
    assert_eq!(found.metadata().details, details);
}

#[test]
fn named_buffers_come_back_in_memory_and_into_the_callers() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path().join("c")).unwrap();
    let mut state = State::json(&7_u32).unwrap();
    let arrays: Vec<Vec<f32>> = (0..300_u16)
        .map(|n| vec![f32::from(n); usize::from(n) * 97])
        .collect();
    for (n, array) in arrays.iter().enumerate() {
        state = state.with_array(format!("layer.{n}"), &[n, 97], array);
    }
    let halves = payload(5, 3_000_001 * 2, false);
    state = state.with_buffer("halves", Element::Bf16, &[3_000_001], &halves);
    store.save("model", &state, &Details::new()).unwrap();

    let found = store.latest("model").unwrap().unwrap();
    assert_eq!(found.value::<u32>().unwrap(), 7);
    assert_eq!(found.buffers().count(), 301);
    assert_eq!(*found.array::<f32>("layer.299").unwrap(), arrays[299][..]);
    assert_eq!(
        found.array::<f64>("layer.1").unwrap_err().kind(),
        ErrorKind::Incompatible
    );
    assert_eq!(
        found.buffer("layer.300").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(found.buffer("halves").unwrap(), halves);

    let mut into: Vec<Vec<f32>> = arrays.iter().map(|array| vec![-1.0; array.len()]).collect();
    let mut half = vec![0; halves.len()];
    let mut targets: Vec<_> = into
        .iter_mut()
        .enumerate()
        .map(|(n, array)| Target::array(format!("layer.{n}"), array))
        .collect();
    targets.push(Target::buffer("halves", Element::Bf16, &mut half));
    let found = store.latest_into("model", &mut targets).unwrap().unwrap();
    assert_eq!(
        found.buffer("layer.3").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    drop(targets);
    assert_eq!(into, arrays);
    assert_eq!(half, halves);

    let mut wrong = vec![0.0_f32; 96];
    for mut target in [
        Target::array("layer.1", &mut wrong),
        Target::array("layer.none", &mut [0_u8; 4]),
    ] {
        let refused = store.latest_into("model", std::slice::from_mut(&mut target));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Incompatible);
    }
}

#[test]
fn bad_input_is_refused_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    let twice = State::new()
        .with_array("a", &[1], &[1_u8])
        .with_array("a", &[1], &[1_u8]);
    let shape = State::new().with_array("a", &[2, 2], &[1.0_f32; 3]);
    let overflow = State::new().with_array("a", &[usize::MAX, 16], &[1.0_f32; 3]);
    let nameless = State::new().with_array("", &[1], &[1_u8]);
    let mut figure = Details::new();
    figure.metrics.insert("loss".into(), f64::NAN);
    for (name, state, details) in [
        ("a/b", &State::bytes(b"x"), &Details::new()),
        ("ok", &twice, &Details::new()),
        ("ok", &shape, &Details::new()),
        ("ok", &overflow, &Details::new()),
        ("ok", &nameless, &Details::new()),
        ("ok", &State::bytes(b"x"), &figure),
    ] {
        let refused = store.save(name, state, details).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    assert_eq!(files(&path), ["owner.lock"]);
}

#[test]
fn metadata_are_listed_without_the_payload_and_the_start_is_kept_over_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let details = Details::new()
        .step(40)
        .items(8, Some(10))
        .last_item("img-8.png")
        .metric("loss", 0.25)
        .extra(serde_json::json!({"learning_rate": 0.1}));
    let store = CheckpointStore::open(&path).unwrap();
    store.save("m", &State::bytes(b"one"), &details).unwrap();
    drop(store);
    let store = CheckpointStore::open(&path).unwrap();
    assert_eq!(store.run(), 2);
    store
        .save("m", &State::bytes(b"two"), &Details::new())
        .unwrap();
    let listed = store.list("m").unwrap();
    let [first, second] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    let (first, second) = (
        first.metadata.as_ref().unwrap(),
        second.metadata.as_ref().unwrap(),
    );
    assert_eq!(first.details, details);
    assert_eq!((first.run, second.run), (1, 2));
    assert_eq!(first.started_at_ms, second.started_at_ms);
    assert_eq!(second.generation, Generation(2));
    assert!(store.list("absent").unwrap().is_empty());
    assert!(store.latest("absent").unwrap().is_none());
    assert_eq!(
        files(&path),
        ["m", "owner.lock"],
        "asking for a state makes none"
    );
}

#[test]
fn a_fork_remembers_its_parent_and_goes_its_own_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path().join("c")).unwrap();
    let array = [1.5_f64, 2.5];
    let state = State::json(&1).unwrap().with_array("w", &[2], &array);
    store.save("main", &state, &Details::new().step(9)).unwrap();
    let forked = store.fork("main", Generation(1), "trial").unwrap();
    store
        .save("main", &State::json(&2).unwrap(), &Details::new())
        .unwrap();
    let trial = store.latest("trial").unwrap().unwrap();
    assert_eq!(trial.generation(), forked.generation);
    let parent = trial.metadata().parent.clone().unwrap();
    assert_eq!(
        (parent.name.as_str(), parent.generation),
        ("main", Generation(1))
    );
    assert_eq!(trial.metadata().details.step, Some(9));
    assert_eq!(trial.value::<u32>().unwrap(), 1);
    assert_eq!(*trial.array::<f64>("w").unwrap(), array);
    assert_eq!(
        store.fork("main", Generation(7), "x").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn another_fingerprint_is_refused_key_by_key_and_may_be_ignored_or_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let of = |layers: u32, data: &str| Fingerprint::new().with("layers", layers).with("data", data);
    let open = |fingerprint| CheckpointStore::builder(&path).fingerprint(fingerprint);
    let store = open(of(12, "v1")).open().unwrap();
    store
        .save("m", &State::bytes(b"x"), &Details::new())
        .unwrap();
    drop(store);

    let refused = open(of(24, "v2")).open().unwrap().latest("m").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Incompatible);
    let text = refused.to_string();
    assert!(
        text.contains("`layers` was 12 and is 24")
            && text.contains("`data` was \"v1\" and is \"v2\""),
        "{text}"
    );
    let none = CheckpointStore::open(&path)
        .unwrap()
        .latest("m")
        .unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Incompatible);
    assert!(
        none.to_string().contains("`layers` was 12 and is absent"),
        "{none}"
    );
    assert!(
        open(of(24, "v1"))
            .ignore(["layers"])
            .open()
            .unwrap()
            .latest("m")
            .unwrap()
            .is_some()
    );
    assert!(
        open(of(24, "v2"))
            .ignore(["layers"])
            .open()
            .unwrap()
            .latest("m")
            .is_err()
    );
    let told = Arc::new(Mutex::new(Vec::new()));
    let store = {
        let told = Arc::clone(&told);
        open(of(24, "v2"))
            .accept_changes()
            .on_notice(move |notice| told.lock().unwrap().push(notice.clone()))
            .open()
            .unwrap()
    };
    assert!(store.latest("m").unwrap().is_some());
    assert!(matches!(
        &told.lock().unwrap()[..],
        [Notice::AcceptedChange { .. }]
    ));
}

#[test]
fn a_second_owner_is_refused_and_told_who_has_it_and_readers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    save(&store, "m", 1, 10);
    let refused = CheckpointStore::open(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    assert!(
        refused
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{refused}"
    );
    let reader = CheckpointReader::open(&path).unwrap();
    assert_eq!(
        reader.latest("m").unwrap().unwrap().generation(),
        Generation(1)
    );
    assert_eq!(reader.names().unwrap(), ["m"]);
}

#[test]
fn retention_removes_what_no_rule_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention::newest(2).keep_smallest("loss", 1).keep_every(5);
    let store = CheckpointStore::builder(folder.path().join("c"))
        .retention(retention)
        .open()
        .unwrap();
    for (step, loss) in [
        (1, 9.0),
        (2, 1.0),
        (3, 8.0),
        (4, 7.0),
        (5, 6.0),
        (6, 5.0),
        (7, 4.0),
        (8, 3.0),
    ] {
        let details = Details::new().step(step).metric("loss", loss);
        let details = if step == 3 { details.pinned() } else { details };
        store.save("m", &State::bytes(b"x"), &details).unwrap();
    }
    let left: Vec<u64> = store
        .list("m")
        .unwrap()
        .iter()
        .map(|listed| listed.generation.0)
        .collect();
    assert_eq!(left, [2, 3, 5, 7, 8]);
    assert!(store.prune("m").unwrap().is_empty());
}

#[test]
fn twenty_threads_save_at_once_and_each_generation_is_one_of_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::builder(&path)
        .retention(Retention::all())
        .open()
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..20_u64 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..5 {
                    save(
                        store,
                        if thread % 2 == 0 { "even" } else { "odd" },
                        thread * 100 + round,
                        300_000,
                    );
                }
            });
        }
    });
    for name in ["even", "odd"] {
        let listed = store.list(name).unwrap();
        assert_eq!(listed.len(), 50);
        for (number, listed) in (1..).zip(&listed) {
            let metadata = listed.metadata.as_ref().unwrap();
            assert_eq!(metadata.generation, Generation(number));
            let step = metadata.details.step.unwrap();
            let loaded = store.load(name, listed.generation).unwrap();
            assert_eq!(loaded.bytes().unwrap(), payload(step, 300_000, false));
        }
        assert_eq!(
            files(&path.join(name)).len(),
            50,
            "no temporary files are left"
        );
    }
}

#[test]
fn metadata_that_could_not_be_read_back_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    let mut deep = serde_json::json!(1);
    for _ in 0..200 {
        deep = serde_json::json!([deep]);
    }
    let details = Details::new().extra(deep);
    for state in [
        State::bytes(b"small"),
        State::bytes(&payload(1, 1 << 20, false)),
    ] {
        let refused = store.save("m", &state, &details).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    store
        .save("m", &State::bytes(b"first"), &Details::new())
        .unwrap();
    let refused = store
        .save_small("m", &State::bytes(b"small"), &details)
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(
        store.latest("m").unwrap().unwrap().bytes(),
        Some(&b"first"[..])
    );
}

#[test]
fn pruning_a_name_that_is_not_there_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    assert!(store.prune("typo").unwrap().is_empty());
    assert_eq!(files(&path), ["owner.lock"]);
}
