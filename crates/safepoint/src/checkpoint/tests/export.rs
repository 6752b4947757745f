//! What is exported can be read by others: by the program on the book's page, in a real Python.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;
use serde_json::{Value, json};

use super::{files, payload};
use crate::checkpoint::*;
use crate::error::ErrorKind;

const PAGE: &str = include_str!("../../../../../docs/src/formats/export.md");

/// What the program on the page finds in a file: bytes as lists of numbers.
fn read(path: &Path) -> Value {
    let program = PAGE.split("```python\n").nth(1).unwrap();
    let program = program.split("```").next().unwrap();
    let tell = r#"
metadata, value, buffers = read(sys.argv[1])
plain = lambda found: list(found) if isinstance(found, bytearray) else found
buffers = {name: [kind, shape, list(content)] for name, (kind, shape, content) in buffers.items()}
print(json.dumps({"metadata": metadata, "value": plain(value), "buffers": buffers}))
"#;
    let ran = Command::new("python3")
        .args(["-I", "-c", &format!("{program}{tell}")])
        .arg(path)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// Saves a state and exports it, and what Python reads.
fn through(state: &State<'_>) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path().join("c")).unwrap();
    let details = Details::new().step(7).metric("loss", 0.5);
    let saved = store.save("model", state, &details).unwrap();
    let path = store
        .export("model", saved.generation, folder.path())
        .unwrap();
    let read = read(&path);
    assert_eq!(read["metadata"]["name"], "model");
    assert_eq!(read["metadata"]["generation"], 1);
    assert_eq!(read["metadata"]["step"], 7);
    assert_eq!(read["metadata"]["metrics"], json!({"loss": 0.5}));
    read
}

#[test]
fn values_that_json_can_say_are_json() {
    let value = json!({
        "text": "two\nlines, \"quoted\", ä, \u{1F600}",
        "numbers": [0, -1, u64::MAX, i64::MIN, 0.1, 1e300],
        "nothing": null, "yes": true, "nested": [[[]], {}],
    });
    for state in [State::json(&value), State::message_pack(&value)] {
        assert_eq!(through(&state.unwrap())["value"], value);
    }
    // Keys that are numbers become texts, as in any JSON.
    let keys = BTreeMap::from([(7, 0.25_f32), (8, 3.0)]);
    let read = through(&State::message_pack(&keys).unwrap());
    assert_eq!(read["value"], json!({"7": 0.25, "8": 3.0}));
    assert_eq!(through(&State::new())["value"], Value::Null);
    // Line breaks between the words are no end of the line.
    let spread = State {
        value: Some((
            Encoding::Json,
            State::bytes(b"[1,\r\n 2\n]").value.unwrap().1,
        )),
        buffers: Vec::new(),
    };
    assert_eq!(through(&spread)["value"], json!([1, 2]));
}

#[derive(Serialize)]
struct Nested(Vec<Nested>);

#[test]
fn values_that_json_cannot_say_are_bytes() {
    let deep = (0..200).fold(Nested(Vec::new()), |inner, _| Nested(vec![inner]));
    let bytes = payload(1, 2_000_001, false);
    let mut behind = rmp_serde::to_vec(&1).unwrap();
    behind.push(2);
    let states = [
        State::message_pack(&[f64::NAN, 1.0]).unwrap(),
        State::message_pack(&deep).unwrap(),
        State::json(&deep).unwrap(),
        State {
            value: Some((
                Encoding::MessagePack,
                State::bytes(&behind).value.unwrap().1,
            )),
            buffers: Vec::new(),
        },
        State {
            value: Some((Encoding::Json, State::bytes(b"{\"half\":").value.unwrap().1)),
            buffers: Vec::new(),
        },
        State::bytes(&bytes),
        State::bytes(b""),
    ];
    for state in &states {
        let stored = state.parts().next().unwrap();
        assert_eq!(through(state)["value"], json!(stored));
    }
}

#[test]
fn buffers_are_told_in_pieces_of_bounded_length_and_put_together_again() {
    let array: Vec<f32> = (0..300_000_u32).map(|n| f32::from_bits(n * 7)).collect();
    let halves = payload(3, 3_000_002, true);
    let state = State::json(&json!([1]))
        .unwrap()
        .with_array("a", &[300, 1000], &array)
        .with_array::<u8>("none", &[0, 4], &[])
        .with_buffer("halves \"é\"", Element::Bf16, &[1_500_001], &halves);
    let read = through(&state);
    assert_eq!(read["value"], json!([1]));
    let buffers = read["buffers"].as_object().unwrap();
    assert_eq!(buffers.len(), 3);
    let bytes: &[u8] = bytemuck::cast_slice(&array);
    assert_eq!(buffers["a"], json!(["f32", [300, 1000], bytes]));
    assert_eq!(buffers["none"], json!(["u8", [0, 4], []]));
    assert_eq!(
        buffers["halves \"é\""],
        json!(["bf16", [1_500_001], halves])
    );
}

#[test]
fn a_record_of_a_journal_is_exported_and_told_as_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path().join("c")).unwrap();
    for step in 1..=3 {
        let state = State::message_pack(&json!({"step": step})).unwrap();
        let details = Details::new().step(step);
        store.save_small("m", &state, &details).unwrap();
    }
    for (generation, in_journal) in [(1, false), (2, true), (3, true)] {
        let contents = store
            .reader()
            .contents("m", Generation(generation))
            .unwrap();
        assert_eq!(contents.in_journal, in_journal);
        assert_eq!(contents.metadata.details.step, Some(generation));
        assert_eq!(contents.value_bytes, Some(contents.metadata.payload_bytes));
        let path = store.export("m", Generation(generation), folder.path());
        let read = read(&path.unwrap());
        assert_eq!(read["metadata"]["generation"], generation);
        assert_eq!(read["value"], json!({"step": generation}));
    }
    let refused = store.reader().contents("m", Generation(4)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}

#[test]
fn an_export_replaces_nothing_and_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    let bytes = payload(1, 5 << 20, false);
    store
        .save("m", &State::bytes(&bytes), &Details::new())
        .unwrap();
    let saved_at_ms = store.list("m").unwrap()[0]
        .metadata
        .as_ref()
        .unwrap()
        .saved_at_ms;
    let told = crate::clock::rfc_3339(saved_at_ms);
    let second: String = told[..19].replace(['-', ':'], "").replace('T', "_");
    for ending in ["", "_2", "_3"] {
        let exported = store.export("m", Generation(1), &out).unwrap();
        let expected = format!("checkpoint_{second}{ending}.jsonl.gz");
        assert_eq!(exported, out.join(expected));
    }

    let file = path.join("m/0000000001.ckpt");
    let mut damaged = fs::read(&file).unwrap();
    damaged[4 << 20] ^= 1;
    fs::write(&file, damaged).unwrap();
    let refused = store.export("m", Generation(1), &out).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{}", refused.chain());
    let refused = store.export("m", Generation(2), &out).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let nowhere = store
        .export("m", Generation(1), out.join("none"))
        .unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Io);
    assert_eq!(files(&out).len(), 3, "{:?}", files(&out));
}
