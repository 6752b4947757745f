use super::*;
use crate::trace::{Event, Trace};

fn create(path: &str, file: u64) -> Event {
    Event::Create {
        path: Some(path.into()),
        file,
    }
}

fn written(file: u64, offset: u64, bytes: &[u8]) -> Event {
    Event::Write {
        file,
        offset,
        bytes: bytes.to_vec(),
    }
}

fn begin(path: &str, file: u64, token: u64) -> Event {
    Event::SyncBegin {
        file,
        path: path.into(),
        token,
    }
}

fn end(token: u64) -> Event {
    Event::SyncEnd { token }
}

fn left(events: &[Event], cut: usize, policy: Policy) -> Vec<(String, Option<String>)> {
    let image = History::new(&Trace {
        events: events.to_vec(),
    })
    .image(cut, policy);
    let text = |entry| match entry {
        Entry::File(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Entry::Directory => None,
    };
    image
        .entries
        .into_iter()
        .map(|(path, entry)| (path.display().to_string(), text(entry)))
        .collect()
}

fn files(expected: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    expected
        .iter()
        .map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned())))
        .collect()
}

const STRICT: Policy = Policy::DropUnsynced(Names::DirectorySync);
const EXT4: Policy = Policy::DropUnsynced(Names::FileSync);

#[test]
fn a_file_needs_its_sync_and_its_directory() {
    let events = [
        create("a", 1),
        written(1, 0, b"x"),
        begin("a", 1, 1),
        end(1),
        begin("", 9, 2),
        end(2),
    ];
    assert_eq!(left(&events, 2, Policy::KeepAll), files(&[("a", "x")]));
    assert_eq!(
        left(&events, 3, EXT4),
        [],
        "a sync that has not ended promises nothing"
    );
    assert_eq!(left(&events, 4, EXT4), files(&[("a", "x")]));
    assert_eq!(left(&events, 5, STRICT), []);
    assert_eq!(left(&events, 6, STRICT), files(&[("a", "x")]));
}

#[test]
fn a_write_between_begin_and_end_of_a_sync_is_not_durable() {
    let events = [
        create("a", 1),
        written(1, 0, b"one"),
        begin("a", 1, 1),
        written(1, 3, b"two"),
        end(1),
        begin("", 9, 2),
        end(2),
    ];
    assert_eq!(left(&events, 7, STRICT), files(&[("a", "one")]));
    assert_eq!(left(&events, 7, Policy::KeepAll), files(&[("a", "onetwo")]));
}

#[test]
fn replacing_without_a_sync_of_the_file_leaves_an_empty_one() {
    let events = [
        create("a.new", 2),
        written(2, 0, b"new"),
        Event::Rename {
            from: "a.new".into(),
            to: "a".into(),
        },
        begin("", 9, 1),
        end(1),
    ];
    assert_eq!(left(&events, 5, STRICT), files(&[("a", "")]));
}

#[test]
fn a_rename_is_durable_with_its_directory_only() {
    let old = [
        create("a", 1),
        written(1, 0, b"old"),
        begin("a", 1, 1),
        end(1),
        begin("", 9, 2),
        end(2),
    ];
    let new = [
        create("a.new", 2),
        written(2, 0, b"new"),
        begin("a.new", 2, 3),
        end(3),
        Event::Rename {
            from: "a.new".into(),
            to: "a".into(),
        },
        begin("", 9, 4),
        end(4),
    ];
    let events = [old.as_slice(), &new].concat();
    assert_eq!(left(&events, 12, STRICT), files(&[("a", "old")]));
    assert_eq!(
        left(&events, 12, EXT4),
        files(&[("a", "old"), ("a.new", "new")])
    );
    assert_eq!(left(&events, 13, STRICT), files(&[("a", "new")]));
}

#[test]
fn an_unsynced_removal_comes_back_and_a_reused_inode_is_another_file() {
    let events = [
        create("a", 1),
        written(1, 0, b"x"),
        begin("a", 1, 1),
        end(1),
        begin("", 9, 2),
        end(2),
        Event::Unlink { path: "a".into() },
        create("b", 1),
        written(1, 0, b"other"),
    ];
    assert_eq!(left(&events, 9, STRICT), files(&[("a", "x")]));
    assert_eq!(left(&events, 9, Policy::KeepAll), files(&[("b", "other")]));
}

#[test]
fn a_nameless_file_appears_with_its_link() {
    let events = [
        Event::Create {
            path: None,
            file: 3,
        },
        written(3, 0, b"x"),
        begin("#3 (deleted)", 3, 1),
        end(1),
        Event::Link {
            file: 3,
            to: "a".into(),
        },
        begin("", 9, 2),
        end(2),
    ];
    assert_eq!(left(&events, 4, Policy::KeepAll), []);
    assert_eq!(left(&events, 5, STRICT), []);
    assert_eq!(left(&events, 7, STRICT), files(&[("a", "x")]));
}

#[test]
fn a_directory_takes_its_files_with_it() {
    let made = Event::MakeDirectory {
        path: "d".into(),
        file: 7,
    };
    let events = [
        made,
        create("d/a", 1),
        begin("d/a", 1, 1),
        end(1),
        begin("d", 7, 2),
        end(2),
        begin("", 9, 3),
        end(3),
    ];
    assert_eq!(
        left(&events, 6, STRICT),
        [],
        "the name of the directory itself was not synced"
    );
    let both = vec![
        ("d".to_owned(), None),
        ("d/a".to_owned(), Some(String::new())),
    ];
    assert_eq!(left(&events, 4, EXT4), both);
    assert_eq!(left(&events, 8, STRICT), both);
    let moved = [
        events.as_slice(),
        &[Event::Rename {
            from: "d".into(),
            to: "e".into(),
        }],
    ]
    .concat();
    assert_eq!(left(&moved, 9, Policy::KeepAll)[1].0, "e/a");
    assert_eq!(left(&moved, 9, STRICT), both);
}

#[test]
fn torn_keeps_what_is_durable_and_varies_in_the_rest() {
    let long = vec![b'y'; 2000];
    let events = [
        create("a", 1),
        written(1, 0, b"safe"),
        begin("a", 1, 1),
        end(1),
        begin("", 9, 2),
        end(2),
        written(1, 100, &long),
    ];
    let mut sizes = BTreeSet::new();
    for seed in 0..100 {
        let policy = Policy::Torn {
            seed,
            names: Names::DirectorySync,
        };
        let found = left(&events, 7, policy);
        let text = found[0].1.clone().unwrap();
        assert!(text.starts_with("safe"));
        assert_eq!(found, left(&events, 7, policy), "the seed decides");
        sizes.insert(text.len());
    }
    assert_eq!(
        sizes.into_iter().collect::<Vec<_>>(),
        [4, 512, 1024, 1536, 2048, 2100]
    );
}
