//! A payload that lies in many pieces of memory, seen as one stream and cut into frames.

use super::format::FRAME_BYTES;

/// The pieces of a payload to be written, and where each begins in the stream.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    pieces: Vec<(u64, &'a [u8])>,
    bytes: u64,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut bytes = 0;
        let mut pieces = Vec::new();
        for part in parts.filter(|part| !part.is_empty()) {
            pieces.push((bytes, part));
            bytes += part.len() as u64;
        }
        Self { pieces, bytes }
    }

    /// The length of the stream.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many frames it makes.
    pub(super) fn frames(&self) -> usize {
        usize::try_from(self.bytes.div_ceil(FRAME_BYTES as u64)).unwrap_or(usize::MAX)
    }

    /// The slices that make up a frame, none of them empty.
    pub(super) fn frame(&self, number: usize) -> impl Iterator<Item = &'a [u8]> {
        let begin = number as u64 * FRAME_BYTES as u64;
        let end = (begin + FRAME_BYTES as u64).min(self.bytes);
        // The last piece that begins at or before the frame.
        let first = self.pieces.partition_point(|(at, _)| *at <= begin) - 1;
        self.pieces[first..]
            .iter()
            .take_while(move |(at, _)| *at < end)
            .map(move |(at, piece)| {
                let from = begin.saturating_sub(*at);
                let to = (end - at).min(piece.len() as u64);
                // Both are within the piece, whose length is a usize.
                &piece[usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0)]
            })
    }
}

/// Cuts memory that is to be filled into frames: for each frame, the slices that it fills. `frame_bytes` is at least 1.
pub(super) fn cut<'a>(
    parts: impl Iterator<Item = &'a mut [u8]>,
    frame_bytes: usize,
) -> Vec<Vec<&'a mut [u8]>> {
    let mut frames: Vec<Vec<&mut [u8]>> = Vec::new();
    let mut room = 0;
    for mut part in parts {
        while !part.is_empty() {
            if room == 0 {
                frames.push(Vec::new());
                room = frame_bytes;
            }
            let (here, rest) = part.split_at_mut(room.min(part.len()));
            room -= here.len();
            if let Some(frame) = frames.last_mut() {
                frame.push(here);
            }
            part = rest;
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cover_the_stream_once_and_in_order_wherever_the_pieces_end() {
        let f = FRAME_BYTES;
        for lengths in [
            vec![],
            vec![0],
            vec![1],
            vec![f],
            vec![f, 1],
            vec![f - 1, 1, 1],
            vec![3, 0, 2 * f, 5, f],
            vec![2 * f + 1],
        ] {
            let mut next = 0_u8;
            let parts: Vec<Vec<u8>> = lengths
                .iter()
                .map(|length| {
                    (0..*length)
                        .map(|_| {
                            next = next.wrapping_mul(31).wrapping_add(7);
                            next
                        })
                        .collect()
                })
                .collect();
            let whole = parts.concat();
            let pieces = Pieces::new(parts.iter().map(Vec::as_slice));
            assert_eq!(pieces.bytes(), whole.len() as u64);
            let frames: Vec<Vec<u8>> = (0..pieces.frames())
                .map(|number| pieces.frame(number).collect::<Vec<_>>().concat())
                .collect();
            assert_eq!(frames.concat(), whole, "{lengths:?}");
            assert!(frames.iter().rev().skip(1).all(|frame| frame.len() == f));

            let mut targets = parts.clone();
            let filled = cut(targets.iter_mut().map(Vec::as_mut_slice), f);
            assert_eq!(filled.len(), frames.len());
            for (slots, frame) in filled.into_iter().zip(&frames) {
                assert_eq!(slots.concat(), *frame);
            }
        }
    }
}
