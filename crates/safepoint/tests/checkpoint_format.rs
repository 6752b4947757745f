//! Files of every released version of the format keep opening, a newer one is refused, and the book's page tells enough to read one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safepoint::checkpoint::{
    Checkpoint, CheckpointReader, CheckpointStore, Compression, Details, Element, FORMAT_VERSION,
    Fingerprint, Generation, State,
};
use safepoint::{ErrorKind, Result};

/// One directory for each version, with a state for each of [`STATES`].
fn fixtures(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/checkpoint-{version}"))
}

const STATES: [&str; 5] = ["raw", "compressed", "buffers", "value", "empty"];

/// Bytes that do not compress, without a generator that a later version of a crate may change.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// A copy, as the files of a checkout may belong to somebody else.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).expect("fixtures") {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
#[ignore = "writes the fixtures of a new version of the format; run it once, by name"]
fn write_fixtures() {
    write_to(&fixtures(FORMAT_VERSION.0)).unwrap();
}

fn write_to(path: &Path) -> Result<()> {
    let store = CheckpointStore::builder(path)
        .fingerprint(Fingerprint::new().with("layers", 2))
        .compression(Compression::WherePays)
        .open()?;
    let details = Details::new()
        .step(40)
        .items(8, Some(10))
        .last_item("img-8.png")
        .metric("loss", 0.25)
        .extra(serde_json::json!({"learning_rate": 0.5}));
    let (noise, text) = (noise(1000), text());
    let (weights, bias) = ([0.5_f32, -1.0, 2.0, 0.0, 1.5, 3.0], [7_i64, -7]);
    let buffers = State::message_pack(&(3, "epoch"))?
        .with_array("weights", &[2, 3], &weights)
        .with_array("bias", &[2], &bias)
        .with_buffer("none", Element::Bf16, &[0, 4], &[]);
    store.save("raw", &State::bytes(&noise), &details)?;
    store.save("compressed", &State::bytes(text.as_bytes()), &details)?;
    store.save("buffers", &buffers, &details)?;
    store.save("value", &State::json(&[1, 2, 3])?, &details)?;
    store.save("empty", &State::new(), &Details::new())?;
    Ok(())
}

fn text() -> String {
    "a line that comes again and again\n".repeat(200)
}

/// The whole payload, as one stream.
fn payload(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut payload = checkpoint.bytes().unwrap_or_default().to_vec();
    for info in checkpoint.buffers() {
        payload.extend_from_slice(checkpoint.buffer(&info.name).unwrap());
    }
    payload
}

#[test]
fn files_of_every_version_keep_opening() {
    for version in 1..=FORMAT_VERSION.0 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        copy(&fixtures(version), &path);
        let store = CheckpointStore::builder(&path)
            .fingerprint(Fingerprint::new().with("layers", 2))
            .open()
            .unwrap();
        let load = |name: &str| {
            let found = store.latest(name).unwrap().expect("a generation");
            assert!(found.skipped().is_empty());
            found
        };
        assert_eq!(load("raw").bytes().unwrap(), noise(1000));
        assert_eq!(load("compressed").bytes().unwrap(), text().as_bytes());
        assert_eq!(load("value").value::<Vec<u32>>().unwrap(), [1, 2, 3]);
        assert_eq!(payload(&load("empty")), b"");
        let buffers = load("buffers");
        assert_eq!(
            buffers.value::<(u32, String)>().unwrap(),
            (3, "epoch".to_owned())
        );
        assert_eq!(
            *buffers.array::<f32>("weights").unwrap(),
            [0.5, -1.0, 2.0, 0.0, 1.5, 3.0]
        );
        assert_eq!(*buffers.array::<i64>("bias").unwrap(), [7, -7]);
        let shapes: Vec<_> = buffers.buffers().map(|info| info.shape.clone()).collect();
        assert_eq!(shapes, [vec![2, 3], vec![2], vec![0, 4]]);
        let details = &buffers.metadata().details;
        assert_eq!((details.step, details.items_total), (Some(40), Some(10)));
        assert_eq!(details.metrics["loss"].to_bits(), 0.25_f64.to_bits());
        assert_eq!(details.extra["learning_rate"], 0.5);
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_its_version_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    copy(&fixtures(FORMAT_VERSION.0), &path);
    let file = path.join("raw/0000000001.ckpt");
    let bytes = fs::read(&file).unwrap();
    // A newer program may have changed all but the beginning of the header.
    let newer = FORMAT_VERSION.0 + 1;
    let header = String::from_utf8_lossy(&bytes[..128]).replace(
        &format!("\"version\":{}", FORMAT_VERSION.0),
        &format!("\"version\":{newer}"),
    );
    fs::write(&file, [header.as_bytes(), &[7; 500]].concat()).unwrap();
    let reader = CheckpointReader::open(&path).unwrap();
    let refused = [
        reader.latest("raw").unwrap_err(),
        reader.load("raw", Generation(1)).unwrap_err(),
    ];
    for refused in refused {
        assert_eq!(refused.kind(), ErrorKind::Incompatible);
        assert!(
            refused.chain().contains(&format!("format {newer}")),
            "{}",
            refused.chain()
        );
    }
}

const PAGE: &str = include_str!("../../../docs/src/formats/checkpoint.md");

/// The program on the page reads the fixtures and what this version writes, and notices a flipped bit.
#[test]
fn the_program_on_the_page_of_the_format_reads_what_this_crate_writes() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("read.py");
    let program = PAGE
        .split("```python\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    fs::write(&script, program.expect("a program on the page")).unwrap();
    let python = |file: &Path, to: &Path| {
        let mut command = Command::new("python3");
        command.arg(&script).args([file, to]);
        command.output().expect("python3")
    };
    let stores = [folder.path().join("fixtures"), folder.path().join("now")];
    copy(&fixtures(1), &stores[0]);
    write_to(&stores[1]).unwrap();
    let mut skipped = 0;
    for path in &stores {
        let reader = CheckpointReader::open(path).unwrap();
        for name in STATES {
            let file = path.join(name).join("0000000001.ckpt");
            let to = folder.path().join("payload");
            let output = python(&file, &to);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            if name == "compressed" && told.contains("no zstd in this Python") {
                skipped += 1;
                continue;
            }
            assert!(output.status.success(), "{name}: {told}");
            let found = reader.load(name, Generation(1)).unwrap();
            assert_eq!(fs::read(&to).unwrap(), payload(&found), "{name}");
            let metadata: serde_json::Value = serde_json::from_str(&said).unwrap();
            assert_eq!(metadata, serde_json::to_value(found.metadata()).unwrap());

            let mut flipped = fs::read(&file).unwrap();
            for at in [3, flipped.len() / 3, flipped.len() / 2, flipped.len() - 30] {
                flipped[at] ^= 4;
                fs::write(&file, &flipped).unwrap();
                assert!(!python(&file, &to).status.success(), "{name}, byte {at}");
                flipped[at] ^= 4;
            }
        }
    }
    assert!(skipped == 0 || skipped == stores.len());
}

/// What the page says in numbers is what the crate does.
#[test]
fn the_page_of_the_format_names_the_version_and_the_limits() {
    assert!(PAGE.contains(&format!("version {}", FORMAT_VERSION.0)));
    let limits = [
        (safepoint::checkpoint::MAX_NAME, "a state's name"),
        (safepoint::checkpoint::MAX_BUFFER_NAME, "a buffer's name"),
    ];
    for (limit, what) in limits {
        let row = PAGE.lines().find(|line| line.contains(what));
        let said = row.and_then(|row| row.rsplit('|').nth(1));
        assert_eq!(said.expect(what).trim(), limit.to_string(), "{what}");
    }
}
