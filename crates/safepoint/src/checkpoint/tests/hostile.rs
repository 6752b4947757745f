//! Files that were made to harm: whatever they say, reading them ends in an error of a known kind, without a panic and in little memory.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use super::payload;
use crate::checkpoint::format::header::HEADER_BYTES;
use crate::checkpoint::format::trailer::{TRAILER_BYTES, Trailer};
use crate::checkpoint::format::{MAX_RATIO, checksum};
use crate::checkpoint::read::OpenFile;
use crate::checkpoint::*;
use crate::error::ErrorKind;

/// A file taken apart, to be put together again with checksums that are right.
#[derive(Debug, Clone)]
struct Parts {
    header: Vec<u8>,
    frames: Vec<u8>,
    contents: Value,
    metadata: Value,
}

impl Parts {
    fn of(file: &[u8]) -> Self {
        let (before, last) = file.split_last_chunk::<TRAILER_BYTES>().unwrap();
        let trailer = Trailer::decode(last, file.len() as u64).unwrap();
        let contents_at = usize::try_from(trailer.contents_at).unwrap();
        let metadata_at = contents_at + trailer.contents_bytes as usize;
        Self {
            header: before[..HEADER_BYTES].to_vec(),
            frames: before[HEADER_BYTES..contents_at].to_vec(),
            contents: serde_json::from_slice(&before[contents_at..metadata_at]).unwrap(),
            metadata: serde_json::from_slice(&before[metadata_at..]).unwrap(),
        }
    }

    /// The checksum of every frame whose place makes sense becomes right.
    fn mend_frames(&mut self) {
        let frames = self
            .contents
            .get_mut("frames")
            .and_then(Value::as_array_mut);
        for frame in frames.into_iter().flatten() {
            let number = |place: usize| usize::try_from(frame.get(place)?.as_u64()?).ok();
            let stored = number(0).zip(number(1)).and_then(|(at, length)| {
                let at = at.checked_sub(HEADER_BYTES)?;
                self.frames.get(at..at.checked_add(length)?)
            });
            if let (Some(stored), Some(crc)) = (stored, frame.get_mut(2)) {
                *crc = checksum(stored).into();
            }
        }
    }

    fn file(&self) -> Vec<u8> {
        let contents = serde_json::to_vec(&self.contents).unwrap();
        let metadata = serde_json::to_vec(&self.metadata).unwrap();
        let mut file = [&self.header[..], &self.frames].concat();
        let trailer = Trailer {
            version: FORMAT_VERSION,
            file_bytes: (file.len() + contents.len() + metadata.len() + TRAILER_BYTES) as u64,
            contents_at: file.len() as u64,
            contents_bytes: u32::try_from(contents.len()).unwrap(),
            contents_crc: checksum(&contents),
            metadata_bytes: u32::try_from(metadata.len()).unwrap(),
            metadata_crc: checksum(&metadata),
            header_crc: checksum(&self.header),
        };
        file.extend(contents);
        file.extend(metadata);
        file.extend(trailer.encode());
        file
    }
}

/// What is done to a file.
#[derive(Debug, Clone)]
enum Change {
    /// A byte of the file.
    Byte(usize, u8),
    /// Bytes of another place are put here.
    Splice(usize, usize, usize),
    /// What is behind this is cut off.
    Cut(usize),
    /// A byte of the frames, whose checksums are made right.
    Frame(usize, u8),
    /// A number, text or list of the contents or the metadata becomes something else.
    Json(bool, usize, Value),
    /// A member of the contents or the metadata is taken out, or is there twice.
    Member(bool, usize, bool),
}

fn changes() -> impl Strategy<Value = Change> {
    let any_value = prop_oneof![
        any::<u64>().prop_map(Value::from),
        (0_u64..5000).prop_map(Value::from),
        (0_u32..64).prop_map(|power| Value::from(1_u64 << power)),
        Just(Value::Null),
        Just(Value::from("raw")),
        Just(Value::from("zstd")),
        Just(Value::from(-1)),
        Just(serde_json::json!([])),
        Just(serde_json::json!([u64::MAX, 2])),
    ];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<usize>(), any::<usize>(), 0_usize..200)
            .prop_map(|(from, to, length)| Change::Splice(from, to, length)),
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Frame(at, byte)),
        (any::<bool>(), any::<usize>(), any_value)
            .prop_map(|(which, place, value)| Change::Json(which, place, value)),
        (any::<bool>(), any::<usize>(), any::<bool>())
            .prop_map(|(which, place, twice)| Change::Member(which, place, twice)),
    ]
}

/// The places in a JSON value, depth first; calls `change` on the one of that number.
fn at_place(value: &mut Value, place: &mut usize, change: &mut dyn FnMut(&mut Value)) {
    if *place == 0 {
        *place = usize::MAX;
        return change(value);
    }
    *place -= 1;
    match value {
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| at_place(value, place, change)),
        Value::Object(members) => members
            .iter_mut()
            .for_each(|(_, value)| at_place(value, place, change)),
        _ => {}
    }
}

fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(places).sum(),
        Value::Object(members) => members.iter().map(|(_, value)| places(value)).sum(),
        _ => 0,
    }
}

impl Change {
    fn apply(&self, file: Vec<u8>) -> Vec<u8> {
        let in_parts = |file: &[u8], change: &dyn Fn(&mut Parts)| {
            let mut parts = Parts::of(file);
            change(&mut parts);
            parts.mend_frames();
            parts.file()
        };
        let json = |file: &[u8], metadata: bool, place: usize, change: &dyn Fn(&mut Value)| {
            in_parts(file, &|parts| {
                let value = if metadata {
                    &mut parts.metadata
                } else {
                    &mut parts.contents
                };
                let mut place = place % places(value);
                at_place(value, &mut place, &mut |value| change(value));
            })
        };
        match self {
            Self::Byte(..) | Self::Splice(..) | Self::Cut(_) => self.apply_raw(file),
            Self::Frame(at, byte) => in_parts(&file, &|parts| {
                let length = parts.frames.len().max(1);
                if let Some(old) = parts.frames.get_mut(at % length) {
                    *old = *byte;
                }
            }),
            Self::Json(metadata, place, new) => {
                json(&file, *metadata, *place, &|value| *value = new.clone())
            }
            Self::Member(metadata, place, twice) => {
                json(&file, *metadata, *place, &|value| match value {
                    Value::Array(values) if *twice => values.extend(values.last().cloned()),
                    Value::Array(values) => drop(values.pop()),
                    Value::Object(members) => {
                        let first = members.keys().next().cloned();
                        first.map(|first| members.shift_remove(&first));
                    }
                    _ => {}
                })
            }
        }
    }

    /// Without mending a checksum.
    fn apply_raw(&self, mut file: Vec<u8>) -> Vec<u8> {
        let length = file.len().max(1);
        match self {
            Self::Byte(at, byte) => {
                if let Some(old) = file.get_mut(at % length) {
                    *old = *byte;
                }
            }
            Self::Splice(from, to, bytes) => {
                let from = from % length;
                let part = file[from..(from + bytes).min(file.len())].to_vec();
                let to = to % length;
                file.splice(to..to, part);
            }
            Self::Cut(at) => file.truncate(at % length),
            _ => {}
        }
        file
    }

    fn mends(&self) -> bool {
        matches!(self, Self::Frame(..) | Self::Json(..) | Self::Member(..))
    }
}

/// Valid files of each sort: raw, compressed, with buffers, empty.
fn valid_files() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let store = CheckpointStore::open(&path).unwrap();
    let raw = payload(1, 900, false);
    let text = payload(2, 9000, true);
    let states = [
        State::bytes(&raw),
        State::bytes(&text),
        State::json(&[1, 2, 3])
            .unwrap()
            .with_array("w", &[3, 3], &[0.5_f32; 9])
            .with_array("empty", &[0], &[0_u8; 0]),
        State::new(),
    ];
    states
        .iter()
        .enumerate()
        .map(|(number, state)| {
            let details = Details::new().step(7).metric("loss", 0.5);
            let name = format!("state-{number}");
            store.save(&name, state, &details).unwrap();
            std::fs::read(path.join(name).join("0000000001.ckpt")).unwrap()
        })
        .collect()
}

/// Reads a file in every way there is. The same as the fuzz target `checkpoint_file` does.
fn read_all(folder: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(folder.join("m")).unwrap();
    let path: PathBuf = folder.join("m/0000000001.ckpt");
    std::fs::write(&path, bytes).unwrap();
    if let Ok(table) = OpenFile::open(&path).and_then(|file| file.table()) {
        assert!(
            table.payload_bytes <= MAX_RATIO * bytes.len() as u64,
            "{table:?} asks for {} bytes",
            table.payload_bytes
        );
        assert!(table.frames.len() + table.buffers.len() <= bytes.len());
    }
    let reader = CheckpointReader::open(folder).unwrap();
    let mut weights = [0.0_f32; 9];
    let mut errors = Vec::new();
    errors.extend(reader.latest("m").err());
    let mut target = [Target::array("w", &mut weights)];
    errors.extend(reader.load_into("m", Generation(1), &mut target).err());
    for listed in reader.list("m").unwrap() {
        errors.extend(listed.metadata.err());
    }
    for validated in reader.validate("m").unwrap() {
        errors.extend(validated.outcome.err());
    }
    for error in errors {
        assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Incompatible),
            "{:?}: {}",
            error.kind(),
            error.chain()
        );
    }
}

#[test]
fn a_file_made_to_harm_ends_in_an_error_of_a_known_kind() {
    let files = valid_files();
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.unwrap();
    let inputs = (
        0..files.len(),
        proptest::collection::vec(changes(), 0..4),
        proptest::collection::vec(changes(), 0..2),
    );
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 2000,
        // The input that fails is printed whole.
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let tried = runner.run(&inputs, |(which, deep, flat)| {
        let mut file = files[which].clone();
        for change in deep.iter().filter(|change| change.mends()) {
            file = change.apply(file);
        }
        for change in flat.iter().filter(|change| !change.mends()) {
            file = change.apply(file);
        }
        read_all(folder.path(), &file);
        Ok(())
    });
    tried.unwrap();
}

#[test]
fn a_file_taken_apart_and_put_together_again_is_the_same() {
    for file in valid_files() {
        let mut parts = Parts::of(&file);
        parts.mend_frames();
        assert_eq!(parts.file(), file);
    }
}

#[test]
fn two_buffers_of_one_name_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = Parts::of(&valid_files()[2]);
    parts.contents["buffers"][1]["name"] = "w".into();
    read_all(folder.path(), &parts.file());
    let reader = CheckpointReader::open(folder.path()).unwrap();
    let refused = reader.load("m", Generation(1)).unwrap_err();
    assert!(
        refused
            .chain()
            .contains("two of its buffers are called `w`"),
        "{}",
        refused.chain()
    );
}

#[test]
fn a_small_file_cannot_ask_for_much_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = Parts::of(&valid_files()[1]);
    let claimed = 16_u64 << 20;
    parts.contents["value"]["bytes"] = claimed.into();
    parts.contents["payload_bytes"] = claimed.into();
    parts.contents["frame_bytes"] = claimed.into();
    let file = parts.file();
    assert!(file.len() < 2000);
    read_all(folder.path(), &file);
    let reader = CheckpointReader::open(folder.path()).unwrap();
    let refused = reader.load("m", Generation(1)).unwrap_err();
    assert!(
        refused
            .chain()
            .contains("frame 0 cannot be where it is said to be"),
        "{}",
        refused.chain()
    );
}
