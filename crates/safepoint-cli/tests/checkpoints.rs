//! The commands around checkpoints, over directories that a real store wrote.

use std::path::{Path, PathBuf};

use safepoint::checkpoint::{CheckpointStore, Details, Fingerprint, Generation, Retention, State};

use crate::shown::shows;
use crate::support::Place;

/// Saves four generations of `model`, the second one pinned, to `DIR/checkpoints` of a place; `name` is the directory's.
fn trained(place: &Place, name: &str) -> PathBuf {
    let path = place.file(name).join("checkpoints");
    let fingerprint = Fingerprint::new().with("layers", 12).with("data", "v3");
    let store = CheckpointStore::builder(&path)
        .fingerprint(fingerprint)
        .retention(Retention::all())
        .open()
        .expect("a store");
    let weights: Vec<f32> = (0..6_000_u16).map(|n| f32::from(n).sqrt()).collect();
    for step in 1..=4_u32 {
        let seed = [step];
        let state = State::json(&serde_json::json!({"epoch": step}))
            .expect("JSON")
            .with_array("layer.0/weights", &[60, 100], &weights)
            .with_array("seed", &[1], &seed);
        let mut details = Details::new()
            .step(u64::from(step) * 1000)
            .items(u64::from(step) * 20, Some(100))
            .last_item(format!("image {step}"))
            .metric("loss", 1.0 / f64::from(step));
        if step == 2 {
            details = details
                .pinned()
                .extra(serde_json::json!({"note": "the best"}));
        }
        store.save("model", &state, &details).expect("saved");
    }
    path
}

fn flip(path: &Path, from_end: usize) {
    let mut bytes = std::fs::read(path).expect("a file");
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn generations_are_listed_and_shown() {
    let place = Place::new();
    trained(&place, "run");
    shows!(place, place.run(&["checkpoint", "list", "run"]), @"
    exit 0
    --- stdout
    model: 4 generations, [SIZE]
    GENERATION  SAVED  STEP   ITEMS      SIZE  METRICS      STATE
             1  [AGO]  1,000  20/100  [SIZE]  loss=1       ok
             2  [AGO]  2,000  40/100  [SIZE]  loss=0.5     ok, pinned
             3  [AGO]  3,000  60/100  [SIZE]  loss=0.3333  ok
             4  [AGO]  4,000  80/100  [SIZE]  loss=0.25    ok
    --- stderr
    ");
    shows!(place, place.run(&["checkpoint", "list", "run/checkpoints", "model", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"path":"[DIR]/run/checkpoints","states":[{"name":"model","generations":[{"generation":1,"file_bytes":[N],"in_journal":false,"saved_at":"[TIME]","started_at":"[TIME]","run":1,"step":1000,"items_processed":20,"items_total":100,"last_item":"image 1","metrics":{"loss":1.0},"pinned":false,"extra":null,"parent":null,"fingerprint":{"data":"v3","layers":12},"encoding":"json","payload_bytes":24015,"buffers":2,"written_by":"[VERSION]","error":null},{"generation":2,"file_bytes":[N],"in_journal":false,"saved_at":"[TIME]","started_at":"[TIME]","run":1,"step":2000,"items_processed":40,"items_total":100,"last_item":"image 2","metrics":{"loss":0.5},"pinned":true,"extra":{"note":"the best"},"parent":null,"fingerprint":{"data":"v3","layers":12},"encoding":"json","payload_bytes":24015,"buffers":2,"written_by":"[VERSION]","error":null},{"generation":3,"file_bytes":[N],"in_journal":false,"saved_at":"[TIME]","started_at":"[TIME]","run":1,"step":3000,"items_processed":60,"items_total":100,"last_item":"image 3","metrics":{"loss":0.3333333333333333},"pinned":false,"extra":null,"parent":null,"fingerprint":{"data":"v3","layers":12},"encoding":"json","payload_bytes":24015,"buffers":2,"written_by":"[VERSION]","error":null},{"generation":4,"file_bytes":[N],"in_journal":false,"saved_at":"[TIME]","started_at":"[TIME]","run":1,"step":4000,"items_processed":80,"items_total":100,"last_item":"image 4","metrics":{"loss":0.25},"pinned":false,"extra":null,"parent":null,"fingerprint":{"data":"v3","layers":12},"encoding":"json","payload_bytes":24015,"buffers":2,"written_by":"[VERSION]","error":null}]}]}
    --- stderr
    "#);
    shows!(place, place.run(&["checkpoint", "show", "run", "-g", "2"]), @r#"
    exit 0
    --- stdout
    model, generation 2
      saved        [TIME] ([AGO]), by run 1
      begun        [TIME]
      step         2,000
      items        40/100
      last item    image 2
      metrics      loss=0.5
      pinned       yes: it is never pruned
      fingerprint  data="v3", layers=12
      extra        {"note":"the best"}
      value        json, 11 B
      file         [DIR]/run/checkpoints/model/0000000002.ckpt
      size         [SIZE] for [SIZE] of payload, by safepoint [VERSION]

      BUFFER           TYPE  SHAPE         SIZE
      layer.0/weights  f32   60 x 100  [SIZE]
      seed             u32   1              4 B
    --- stderr
    "#);
    shows!(place, place.run(&["checkpoint", "show", "run", "model", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"name":"model","generation":4,"path":"[DIR]/run/checkpoints/model/0000000004.ckpt","file_bytes":[N],"in_journal":false,"value_bytes":11,"saved_at":"[TIME]","started_at":"[TIME]","run":1,"step":4000,"items_processed":80,"items_total":100,"last_item":"image 4","metrics":{"loss":0.25},"pinned":false,"extra":null,"parent":null,"fingerprint":{"data":"v3","layers":12},"encoding":"json","payload_bytes":24015,"buffers":[{"name":"layer.0/weights","type":"f32","shape":[60,100],"bytes":[N]},{"name":"seed","type":"u32","shape":[1],"bytes":[N]}],"written_by":"[VERSION]"}
    --- stderr
    "#);
    shows!(place, place.run(&["checkpoint", "validate", "run"]), @"
    exit 0
    --- stdout
    `[DIR]/run/checkpoints` is whole: 4 generations, [SIZE] read
    --- stderr
    ");
    shows!(place, place.run(&["checkpoint", "validate", "run", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"path":"[DIR]/run/checkpoints","whole":true,"generations":[{"name":"model","generation":1,"path":"[DIR]/run/checkpoints/model/0000000001.ckpt","payload_bytes":24015,"error":null},{"name":"model","generation":2,"path":"[DIR]/run/checkpoints/model/0000000002.ckpt","payload_bytes":24015,"error":null},{"name":"model","generation":3,"path":"[DIR]/run/checkpoints/model/0000000003.ckpt","payload_bytes":24015,"error":null},{"name":"model","generation":4,"path":"[DIR]/run/checkpoints/model/0000000004.ckpt","payload_bytes":24015,"error":null}]}
    --- stderr
    "#);
    let coloured = place.run(&["checkpoint", "list", "run", "--color", "always"]);
    assert!(
        coloured.stdout.contains("\x1b[36mok, pinned\x1b[0m"),
        "{coloured:?}"
    );
}

#[test]
fn records_of_a_journal_and_forks_are_listed_and_shown() {
    let place = Place::new();
    let path = place.file("state");
    let store = CheckpointStore::open(&path).expect("a store");
    for step in 1..=3 {
        let memory: Vec<u64> = (0..1000)
            .map(|n| (n + step) * 2_654_435_761 % 1_000_003)
            .collect();
        let state = State::json(&memory).expect("JSON");
        let details = Details::new().step(step);
        store.save_small("agent", &state, &details).expect("saved");
    }
    store
        .fork("agent", Generation(3), "agent-2")
        .expect("forked");
    shows!(place, place.run(&["checkpoint", "list", "state"]), @"
    exit 0
    --- stdout
    agent: 2 generations, [SIZE]
    GENERATION  SAVED  STEP     SIZE  STATE
             1  [AGO]  1  [SIZE]  ok
             3  [AGO]  3  [SIZE]  ok, in the journal

    agent-2: 1 generation, [SIZE]
    GENERATION  SAVED  STEP     SIZE  STATE
             1  [AGO]  3  [SIZE]  ok
    --- stderr
    ");
    shows!(place, place.run(&["checkpoint", "show", "state", "agent"]), @"
    exit 0
    --- stdout
    agent, generation 3
      saved        [TIME] ([AGO]), by run 1
      begun        [TIME]
      step         3
      value        json, [SIZE]
      a record in  [DIR]/state/agent/0000000002.journal
      size         [SIZE] for [SIZE] of payload, by safepoint [VERSION]
    --- stderr
    ");
    shows!(place, place.run(&["checkpoint", "show", "state", "agent-2"]), @"
    exit 0
    --- stdout
    agent-2, generation 1
      saved        [TIME] ([AGO]), by run 1
      begun        [TIME]
      step         3
      forked from  `agent`, generation 3
      value        json, [SIZE]
      file         [DIR]/state/agent-2/0000000001.ckpt
      size         [SIZE] for [SIZE] of payload, by safepoint [VERSION]
    --- stderr
    ");
}

#[test]
fn a_damaged_generation_is_named_and_is_exit_code_5() {
    let place = Place::new();
    let path = trained(&place, "run");
    flip(&path.join("model/0000000002.ckpt"), 20); // the trailer
    flip(&path.join("model/0000000003.ckpt"), 5000); // the payload
    shows!(place, place.run(&["checkpoint", "list", "run"]), @"
    exit 0
    --- stdout
    model: 4 generations, [SIZE]
    GENERATION  SAVED  STEP   ITEMS      SIZE  METRICS      STATE
             1  [AGO]  1,000  20/100  [SIZE]  loss=1       ok
             2                           [SIZE]               damaged
                generation 2 of `model` is damaged: its trailer fails its checksum
             3  [AGO]  3,000  60/100  [SIZE]  loss=0.3333  ok
             4  [AGO]  4,000  80/100  [SIZE]  loss=0.25    ok
    --- stderr
    ");
    shows!(place, place.run(&["checkpoint", "validate", "run"]), @"
    exit 5
    --- stdout
    problem: generation 2 of `model` is damaged: its trailer fails its checksum
    problem: generation 3 of `model` is damaged: frame 0 fails its checksum
    --- stderr
    error: `[DIR]/run/checkpoints` is damaged: 2 of 4 generations
    hint: the program goes on from the newest generation that is whole, and moves damaged ones aside; or put a copy of the file back
    ");
    shows!(place, place.run(&["checkpoint", "validate", "run", "--json"]), @r#"
    exit 5
    --- stdout
    {"schema":1,"path":"[DIR]/run/checkpoints","whole":false,"generations":[{"name":"model","generation":1,"path":"[DIR]/run/checkpoints/model/0000000001.ckpt","payload_bytes":24015,"error":null},{"name":"model","generation":2,"path":"[DIR]/run/checkpoints/model/0000000002.ckpt","payload_bytes":null,"error":{"kind":"corrupt","message":"generation 2 of `model` is damaged: its trailer fails its checksum"}},{"name":"model","generation":3,"path":"[DIR]/run/checkpoints/model/0000000003.ckpt","payload_bytes":null,"error":{"kind":"corrupt","message":"generation 3 of `model` is damaged: frame 0 fails its checksum"}},{"name":"model","generation":4,"path":"[DIR]/run/checkpoints/model/0000000004.ckpt","payload_bytes":24015,"error":null}]}
    --- stderr
    error: `[DIR]/run/checkpoints` is damaged: 2 of 4 generations
    hint: the program goes on from the newest generation that is whole, and moves damaged ones aside; or put a copy of the file back
    "#);
    shows!(place, place.run(&["checkpoint", "show", "run", "-g2"]), @"
    exit 5
    --- stdout
    --- stderr
    error: generation 2 of `model` is damaged: its trailer fails its checksum
    ");
    shows!(place, place.run(&["checkpoint", "export", "run", "-g3"]), @"
    exit 5
    --- stdout
    --- stderr
    error: generation 3 of `model` is damaged: frame 0 fails its checksum
    ");
    let left = std::fs::read_dir(place.path()).expect("a place");
    let left: Vec<_> = left.map(|file| file.expect("a file").file_name()).collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with("checkpoint_"))
    );
}

#[test]
fn a_generation_is_exported_to_a_file_of_its_own() {
    let place = Place::new();
    trained(&place, "run");
    std::fs::create_dir(place.file("out")).expect("a folder");
    for _ in 0..2 {
        let ran = place.run(&["checkpoint", "export", "run", "--to", "out"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.stderr, "  exported generation 4 of `model`\n");
        let path = ran.stdout.strip_suffix('\n').expect("a line");
        assert!(
            path.starts_with("out/checkpoint_2") && path.ends_with(".jsonl.gz"),
            "{path}"
        );
        assert!(place.file(path).is_file());
    }
    assert_eq!(
        std::fs::read_dir(place.file("out"))
            .expect("a folder")
            .count(),
        2
    );
    let ran = place.run(&[
        "checkpoint",
        "export",
        "run",
        "model",
        "-g",
        "1",
        "--to",
        "out",
        "--json",
    ]);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        (&told["schema"], &told["generation"]),
        (&1.into(), &1.into())
    );
    assert!(place.file(told["path"].as_str().expect("a path")).is_file());
    let ran = place.run(&["checkpoint", "export", "run", "--to", "nowhere"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[test]
fn old_generations_are_pruned_by_whom_nobody_keeps_from_it() {
    let place = Place::new();
    let path = trained(&place, "run");
    shows!(place, place.run(&["checkpoint", "prune", "run", "--keep", "2", "--dry-run"]), @"
    exit 0
    --- stdout
    model: would remove generation 1, [SIZE]
    --- stderr
    ");
    shows!(place, place.run(&["checkpoint", "prune", "run", "--keep", "1"]), @"
    exit 2
    --- stdout
    --- stderr
    error: invalid value '1' for '--keep <N>': the newest 2 always stay: one to go on from, and one to fall back to

    For more information, try '--help'.
    ");
    let store = CheckpointStore::open(&path).expect("a store");
    shows!(place, place.run(&["checkpoint", "prune", "run", "--keep", "2"]), @"
    exit 4
    --- stdout
    --- stderr
    error: checkpoint directory `[DIR]/run/checkpoints` is owned by process [PID] on `[HOST]` since [TIME]
    hint: wait for it or stop it, or choose another directory; to read only, open a `CheckpointReader`
    ");
    drop(store);
    shows!(place, place.run(&["checkpoint", "prune", "run", "--keep", "2", "--keep-every", "1"]), @"
    exit 0
    --- stdout
    model: nothing to remove
    --- stderr
    ");
    shows!(place, place.run(&["checkpoint", "prune", "run", "--keep", "2"]), @"
    exit 0
    --- stdout
    model: removed generation 1, [SIZE]
    --- stderr
    ");
    shows!(place, place.run(&["checkpoint", "prune", "run", "model", "--keep", "2", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"path":"[DIR]/run/checkpoints","dry_run":false,"states":[{"name":"model","removed":[],"file_bytes":[N]}]}
    --- stderr
    "#);
    let mut left = std::fs::read_dir(path.join("model"))
        .expect("a folder")
        .count();
    left -= 3; // 2 is pinned, 3 and 4 are the newest
    assert_eq!(left, 0);
}

#[test]
fn what_is_not_there_or_not_clear_is_refused_with_what_there_is() {
    let place = Place::new();
    let path = trained(&place, "run");
    shows!(place, place.run(&["checkpoint", "list", "nowhere"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `nowhere` is neither a directory nor a job with checkpoints in `.safepoint`
    hint: name the directory that the program gave to `CheckpointStore::open`
    ");
    shows!(place, place.run(&["checkpoint", "show", "run", "modal"]), @"
    exit 2
    --- stdout
    --- stderr
    error: no state `modal` in `[DIR]/run/checkpoints`
    hint: name one of: model
    ");
    shows!(place, place.run(&["checkpoint", "show", "run", "-g", "9"]), @"
    exit 2
    --- stdout
    --- stderr
    error: there is no generation 9 of `model`
    hint: `safepoint checkpoint list` shows those there are
    ");
    std::fs::create_dir(place.file("empty")).expect("a folder");
    shows!(place, place.run(&["checkpoint", "list", "empty"]), @"
    exit 0
    --- stdout
    --- stderr
    no checkpoints in `[DIR]/empty`
    ");
    shows!(place, place.run(&["checkpoint", "export", "empty"]), @"
    exit 2
    --- stdout
    --- stderr
    error: there are no checkpoints in `[DIR]/empty`
    hint: name the directory that the program gave to `CheckpointStore::open`
    ");
    let builder = CheckpointStore::builder(&path).accept_changes();
    let store = builder.open().expect("a store");
    store.fork("model", Generation(4), "other").expect("forked");
    shows!(place, place.run(&["checkpoint", "show", "run"]), @"
    exit 2
    --- stdout
    --- stderr
    error: `[DIR]/run/checkpoints` has several states
    hint: name one of: model, other
    ");
}

/// A job with all that it can have: items, checkpoints, a cache.
#[test]
fn a_whole_state_directory_is_validated_in_one_report() {
    let place = Place::new();
    place.write("words.txt", "one\ntwo\n");
    let ran = place.run(&["run", "words.txt", "-q", "--", "echo", "{}"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let path = trained(&place, ".safepoint/words");
    let cache = crate::caches::filled(&place, ".safepoint/words/cache");
    shows!(place, place.run(&["checkpoint", "list", "words"]), @"
    exit 0
    --- stdout
    model: 4 generations, [SIZE]
    GENERATION  SAVED  STEP   ITEMS      SIZE  METRICS      STATE
             1  [AGO]  1,000  20/100  [SIZE]  loss=1       ok
             2  [AGO]  2,000  40/100  [SIZE]  loss=0.5     ok, pinned
             3  [AGO]  3,000  60/100  [SIZE]  loss=0.3333  ok
             4  [AGO]  4,000  80/100  [SIZE]  loss=0.25    ok
    --- stderr
    ");
    shows!(place, place.run(&["validate", "words"]), @"
    exit 0
    --- stdout
    job `words` is whole: 2 items, 2 events, 4 generations, 2 entries in caches
    --- stderr
    ");
    shows!(place, place.run(&["validate", "words", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"job":"words","path":".safepoint/words/job.db","whole":true,"items":2,"steps":0,"events":2,"generations":4,"cache_entries":2,"problems":[]}
    --- stderr
    "#);

    flip(&path.join("model/0000000003.ckpt"), 5000);
    let entry = &cache.list().expect("a list")[0];
    flip(&entry.path, 3);
    shows!(place, place.run(&["validate", "words"]), @"
    exit 5
    --- stdout
    problem: generation 3 of `model` is damaged: frame 0 fails its checksum
    problem: `[DIR]/.safepoint/words/cache/820d80c44eedacd1ac454141bf001318.entry` is damaged: it does not end as a checkpoint does
    --- stderr
    error: job `words` is damaged: 2 problems found
    hint: the program goes on from the newest generation that is whole, and moves damaged ones aside; or put a copy of the file back
    ");
    std::fs::remove_file(path.join("model/0000000003.ckpt")).expect("removed");
    shows!(place, place.run(&["validate", ".safepoint/words"]), @"
    exit 5
    --- stdout
    problem: `[DIR]/.safepoint/words/cache/820d80c44eedacd1ac454141bf001318.entry` is damaged: it does not end as a checkpoint does
    --- stderr
    error: `.safepoint/words` is damaged: 1 problem found
    hint: nothing is lost: a damaged entry is computed anew when it is asked for; but look after the disk
    ");

    // Checkpoints without a job, and alone.
    trained(&place, ".safepoint/loop");
    shows!(place, place.run(&["validate", "loop"]), @"
    exit 0
    --- stdout
    job `loop` is whole: 4 generations
    --- stderr
    ");
    shows!(place, place.run(&["validate", ".safepoint/loop/checkpoints"]), @"
    exit 0
    --- stdout
    `.safepoint/loop/checkpoints` is whole: 4 generations
    --- stderr
    ");
    shows!(place, place.run(&["validate", ".safepoint/words/cache"]), @"
    exit 5
    --- stdout
    problem: `[DIR]/.safepoint/words/cache/820d80c44eedacd1ac454141bf001318.entry` is damaged: it does not end as a checkpoint does
    --- stderr
    error: `.safepoint/words/cache` is damaged: 1 problem found
    hint: nothing is lost: a damaged entry is computed anew when it is asked for; but look after the disk
    ");
}
