//! Any bytes as the file of a checkpoint, or as its journal: reading them ends in a value or in an error of a known kind.
//!
//! The checksums stand in a fuzzer's way. Begin with the files in `crates/safepoint/tests/fixtures/checkpoint-1`, and look at the test
//! `checkpoint::tests::hostile`, which mends the checksums behind its mutations.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use safepoint::ErrorKind;
use safepoint::checkpoint::{CheckpointReader, Generation, Target};

/// One directory for the whole process, in memory where that is possible.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = base.join(format!("checkpoint_file-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("file")).expect("a folder");
        std::fs::create_dir_all(folder.join("journal")).expect("a folder");
        folder
    })
}

fuzz_target!(|bytes: &[u8]| {
    let folder = folder();
    for (name, file) in [("file", "0000000001.ckpt"), ("journal", "0000000001.journal")] {
        std::fs::write(folder.join(name).join(file), bytes).expect("a file");
        let reader = CheckpointReader::open(folder).expect("a directory");
        let mut weights = [0.0_f32; 6];
        let mut errors = Vec::new();
        errors.extend(reader.latest(name).err());
        let mut target = [Target::array("weights", &mut weights)];
        errors.extend(reader.load_into(name, Generation(1), &mut target).err());
        let listed = reader.list(name).unwrap_or_default();
        errors.extend(listed.into_iter().filter_map(|listed| listed.metadata.err()));
        let validated = reader.validate(name).unwrap_or_default();
        errors.extend(validated.into_iter().filter_map(|one| one.outcome.err()));
        for error in errors {
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::Corrupt | ErrorKind::Incompatible | ErrorKind::NotFound),
                "{kind:?}: {}",
                error.chain()
            );
        }
    }
});
