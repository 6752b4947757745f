//! Memory that is chosen when it is known what a file holds.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::ThreadId;
use std::time::Duration;

use super::super::{CheckpointStore, Details, Element, Generation, SharedBytes, State, Target};
use crate::error::{Error, ErrorKind};

fn saved(store: &CheckpointStore, step: u32) {
    let weights = [f64::from(step); 3];
    let state = State::json_text(b"{\"a\":1}")
        .with_array("weights", &[3], &weights)
        .with_array("rest", &[1], &[7_u8]);
    store
        .save("model", &state, &Details::new().step(step.into()))
        .unwrap();
}

#[test]
fn the_value_and_the_shapes_are_known_when_memory_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path()).unwrap();
    assert!(
        store
            .latest_with("model", |_| panic!("there is nothing"))
            .unwrap()
            .is_none()
    );
    saved(&store, 5);
    let mut weights = [0.0; 3];
    let memory = RefCell::new(Some(&mut weights));
    let found = store.latest_with("model", |checkpoint| {
        assert_eq!(checkpoint.bytes(), Some(&b"{\"a\":1}"[..]));
        let shapes: Vec<_> = checkpoint
            .buffers()
            .map(|info| (info.name.as_str(), info.element, info.shape.clone()))
            .collect();
        assert_eq!(
            shapes,
            [
                ("weights", Element::F64, vec![3]),
                ("rest", Element::U8, vec![1])
            ]
        );
        let weights = memory.take().expect("asked once");
        Ok(vec![Target::array("weights", weights)])
    });
    let found = found.unwrap().unwrap();
    // What got no memory has its own.
    assert_eq!(found.buffer("rest").unwrap(), [7]);
    assert_eq!(weights.map(f64::to_bits), [5.0; 3].map(f64::to_bits));
    let mut again = [0.0; 3];
    let memory = RefCell::new(Some(&mut again));
    let choose = |_: &_| Ok(vec![Target::array("weights", memory.take().unwrap())]);
    store.load_with("model", Generation(1), choose).unwrap();
    assert_eq!(again.map(f64::to_bits), [5.0; 3].map(f64::to_bits));
}

#[test]
fn it_is_chosen_again_for_an_older_generation() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path()).unwrap();
    saved(&store, 1);
    saved(&store, 2);
    let newest = folder.path().join("model/0000000002.ckpt");
    let mut bytes = std::fs::read(&newest).unwrap();
    let at = bytes
        .windows(8)
        .position(|window| window == 2.0_f64.to_le_bytes());
    bytes[at.expect("raw frames")] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let asked = RefCell::new(Vec::new());
    let found = store.latest_with("model", |checkpoint| {
        asked.borrow_mut().push(checkpoint.generation().0);
        Ok(Vec::new())
    });
    let found = found.unwrap().unwrap();
    assert_eq!(found.generation(), Generation(1));
    assert_eq!(found.skipped().len(), 1);
    // The value shares a frame with what is damaged, so the newest was of no use before anybody was asked.
    assert_eq!(*asked.borrow(), [1]);
}

#[test]
fn an_error_of_who_chooses_is_the_errors_of_the_load() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path()).unwrap();
    saved(&store, 1);
    let refused = store
        .latest_with("model", |_| Err(Error::invalid("no place")))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.chain().contains("no place"), "{}", refused.chain());
    let mut short = [0.0; 2];
    let memory = RefCell::new(Some(&mut short));
    let refused = store
        .reader()
        .latest_with("model", |_| {
            Ok(vec![Target::array("weights", memory.take().unwrap())])
        })
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Incompatible);
}

/// Bytes that the thread which saves does not get before the gate is open.
struct Gated {
    gate: Mutex<mpsc::Receiver<()>>,
    caller: ThreadId,
}

impl SharedBytes for Gated {
    fn bytes(&self) -> &[u8] {
        if std::thread::current().id() != self.caller {
            // An error is a gate that is gone: as open as one can be.
            let _ = self.gate.lock().unwrap().recv();
        }
        b"x"
    }
}

#[test]
fn a_wait_for_the_background_ends_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path()).unwrap();
    assert!(store.wait_background(Duration::ZERO));
    let (open, gate) = mpsc::channel();
    let gated = Gated {
        gate: Mutex::new(gate),
        caller: std::thread::current().id(),
    };
    let state = State::shared_bytes(Arc::new(gated));
    store
        .save_in_background("model", state, Details::new())
        .unwrap();
    assert!(!store.wait_background(Duration::from_millis(1)));
    drop(open);
    while !store.wait_background(Duration::from_secs(1)) {}
    assert_eq!(store.finish_background().unwrap().unwrap().payload_bytes, 1);
}

#[test]
fn what_was_left_to_the_parent_is_held_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path()).unwrap();
    assert_eq!(
        CheckpointStore::open(folder.path()).unwrap_err().kind(),
        ErrorKind::Busy
    );
    store.leave_to_parent();
    CheckpointStore::open(folder.path()).unwrap();
}
