//! The commands around a cache, over a directory that a real one wrote.

use safepoint::checkpoint::Fingerprint;
use safepoint::checkpoint::cache::Cache;
use safepoint::{Error, Result};

use crate::shown::shows;
use crate::support::Place;

/// Fills a cache with two entries.
pub(crate) fn filled(place: &Place, name: &str) -> Cache {
    let cache = Cache::open(place.file(name)).expect("a cache");
    for (key, version, length) in [("words\u{1b}[2J", 1, 1000_u32), ("vectors", 2, 5000)] {
        let of = Fingerprint::new().with("corpus", version);
        let values: Vec<u32> = (0..length).map(|n| n.wrapping_mul(2_654_435_761)).collect();
        let kept = cache.get_array_or_try_insert_with(key, &of, || Ok::<_, Error>(values));
        kept.expect("kept");
    }
    // The times of both are the same to a millisecond otherwise.
    for entry in cache.list().expect("a list") {
        if entry.details.expect("whole").key == "vectors" {
            let file = std::fs::File::options().write(true).open(&entry.path);
            let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
            file.and_then(|file| file.set_modified(hour_ago))
                .expect("set");
        }
    }
    cache
}

#[test]
fn entries_are_listed_validated_and_cleared() {
    let place = Place::new();
    let cache = filled(&place, "cache");
    shows!(place, place.run(&["cache", "list", "cache"]), @r#"
    exit 0
    --- stdout
    [DIR]/cache: 2 entries, [SIZE]
    KEY             FINGERPRINT  USED  TOOK      SIZE  STATE
    vectors         corpus=2     [AGO]  [TOOK]  [SIZE]  ok
    words\u{1b}[2J  corpus=1     [AGO]  [TOOK]   [SIZE]  ok
    --- stderr
    "#);
    shows!(place, place.run(&["cache", "list", "cache", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"path":"[DIR]/cache","entries":[{"key":"vectors","fingerprint":{"corpus":2},"computed_at":"[TIME]","took_us":[N],"used_at":"[TIME]","payload_bytes":20000,"file_bytes":[N],"path":"[DIR]/cache/820d80c44eedacd1ac454141bf001318.entry","error":null},{"key":"words\u001b[2J","fingerprint":{"corpus":1},"computed_at":"[TIME]","took_us":[N],"used_at":"[TIME]","payload_bytes":4000,"file_bytes":[N],"path":"[DIR]/cache/38ae932585a45d4d027806b53d8aa9f8.entry","error":null}]}
    --- stderr
    "#);
    shows!(place, place.run(&["cache", "validate", "cache"]), @"
    exit 0
    --- stdout
    `[DIR]/cache` is whole: 2 entries, [SIZE] read
    --- stderr
    ");
    shows!(place, place.run(&["cache", "validate", "cache", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"path":"[DIR]/cache","whole":true,"entries":[{"key":"vectors","path":"[DIR]/cache/820d80c44eedacd1ac454141bf001318.entry","payload_bytes":20000,"error":null},{"key":"words\u001b[2J","path":"[DIR]/cache/38ae932585a45d4d027806b53d8aa9f8.entry","payload_bytes":4000,"error":null}]}
    --- stderr
    "#);

    let entry = &cache.list().expect("a list")[1];
    std::fs::write(&entry.path, "no entry").expect("written");
    shows!(place, place.run(&["cache", "list", "cache"]), @"
    exit 0
    --- stdout
    [DIR]/cache: 2 entries, [SIZE]
    KEY      FINGERPRINT  USED  TOOK      SIZE  STATE
    vectors  corpus=2     [AGO]  [TOOK]  [SIZE]  ok
    ?                     [AGO]  8 B  damaged
      it has 8 bytes, too few for a checkpoint
    --- stderr
    ");
    shows!(place, place.run(&["cache", "validate", "cache"]), @"
    exit 5
    --- stdout
    problem: `[DIR]/cache/38ae932585a45d4d027806b53d8aa9f8.entry` is damaged: it has 8 bytes, too few for a checkpoint
    --- stderr
    error: `[DIR]/cache` is damaged: 1 of 2 entries
    hint: nothing is lost: a damaged entry is computed anew when it is asked for; but look after the disk
    ");
    shows!(place, place.run(&["cache", "clear", "cache"]), @"
    exit 0
    --- stdout
    --- stderr
    removed 2 entries, [SIZE]
    ");
    shows!(place, place.run(&["cache", "clear", "cache", "--json"]), @r#"
    exit 0
    --- stdout
    {"schema":1,"path":"[DIR]/cache","removed":{"entries":0,"file_bytes":[N]}}
    --- stderr
    "#);
    shows!(place, place.run(&["cache", "list", "cache"]), @"
    exit 0
    --- stdout
    [DIR]/cache: 0 entries, 0 B
    --- stderr
    ");
}

#[test]
fn only_a_cache_is_cleared() {
    let place = Place::new();
    place.write("notes.txt", "important");
    shows!(place, place.run(&["cache", "clear", "."]), @"
    exit 2
    --- stdout
    --- stderr
    error: `.` is no cache
    hint: a cache has a file `CACHEDIR.TAG` that says that safepoint made it
    ");
    shows!(place, place.run(&["cache", "clear", "nowhere"]), @"
    exit 2
    --- stdout
    --- stderr
    error: no directory `nowhere`
    ");
    assert_eq!(place.lines("notes.txt"), ["important"]);
    let computed = || -> Result<u32> { Ok(7) };
    let cache = Cache::open(place.file("cache")).expect("a cache");
    cache
        .get_or_try_insert_with("a", &Fingerprint::new(), computed)
        .expect("kept");
    std::fs::write(place.file("cache/notes.txt"), "important").expect("written");
    assert_eq!(place.run(&["cache", "clear", "cache"]).code, Some(0));
    assert_eq!(place.lines("cache/notes.txt"), ["important"]);
}
