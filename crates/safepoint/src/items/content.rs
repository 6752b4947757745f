//! What is kept of an item's content: all of a short one, of a long one enough to tell it from another.

use std::borrow::Cow;

use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

/// A content up to so many bytes is kept whole; of a longer one its length, its checksum (XXH3, 128 bits) and its beginning.
pub const MAX_CONTENT: usize = 4096;

/// How much of a long content is kept for people.
const BEGINNING: usize = 256;

/// What is kept, and compared in later runs.
pub(super) fn kept(content: &[u8]) -> Cow<'_, [u8]> {
    if content.len() <= MAX_CONTENT {
        return Cow::Borrowed(content);
    }
    let beginning: String = String::from_utf8_lossy(&content[..BEGINNING])
        .trim_end_matches('\u{fffd}')
        .to_owned();
    let kept = json!({
        "bytes": content.len(),
        "xxh3": format!("{:032x}", xxh3_128(content)),
        "beginning": beginning,
    });
    Cow::Owned(kept.to_string().into_bytes())
}

/// A content as a message shows it.
pub(super) fn shown(content: &[u8]) -> String {
    const LENGTH: usize = 60;
    let text = String::from_utf8_lossy(content);
    let mut letters = text.chars();
    let mut shown: String = letters.by_ref().take(LENGTH).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown.escape_debug().to_string().replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_content_is_told_from_another_by_a_few_bytes() {
        let short = vec![b'a'; MAX_CONTENT];
        assert_eq!(kept(&short), short);
        let long = "ä".repeat(MAX_CONTENT).into_bytes();
        let mut other = long.clone();
        *other.last_mut().expect("it has bytes") ^= 1;
        assert!(kept(&long).len() < 1000);
        assert_ne!(kept(&long), kept(&other));
        assert_eq!(kept(&long), kept(&long.clone()));
    }

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown(b"{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(shown(b"a\nb\x1b"), "a\\nb\\u{1b}");
        assert_eq!(shown(&[b'x'; 100]).chars().count(), 61);
    }
}
