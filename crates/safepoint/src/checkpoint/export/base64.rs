//! Bytes as text: base64 with the alphabet and the padding that every language has.
//!
//! # Sources
//!
//! RFC 4648, section 4.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Puts `bytes` at the end of `text`.
pub(super) fn encode(bytes: &[u8], text: &mut Vec<u8>) {
    text.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = |place: usize| ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
        let letters = group.len() + 1;
        text.extend((0..4).map(|place| if place < letters { letter(place) } else { b'=' }));
    }
}

#[cfg(test)]
mod tests {
    /// Section 10 of the RFC.
    #[test]
    fn the_vectors_of_the_standard_come_out() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut encoded = Vec::new();
            super::encode(bytes.as_bytes(), &mut encoded);
            assert_eq!(encoded, text.as_bytes());
        }
        let mut all = Vec::new();
        super::encode(&[0xFB, 0xEF, 0xBE, 0xFF, 0xFF, 0xFF], &mut all);
        assert_eq!(all, b"++++////");
    }
}
