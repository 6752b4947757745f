//! Memory that lent states are copied into, used again from save to save.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};

/// From this size on huge pages are asked for: 512 times fewer page faults the first time, and fewer misses of the TLB each time.
const HUGE_FROM: usize = 4 << 20;

/// The room beside the bytes that were asked for: an eighth of them, up to this, and one part in 256 for the gaps between large parts.
///
/// The value beside the arrays is copied with them and is longer by a digit from time to time; fresh memory for all of them would cost more than the copy.
const MOST_SLACK: usize = 1 << 20;

/// From this length on a part is copied to an address that is its own but for a multiple of [`PAGE`].
///
/// The C library copies so much past the caches, which is three times as fast, but not to an address up to some hundred bytes behind the source's in that sense.
/// Source: `L(large_memcpy_2x)` in `sysdeps/x86_64/multiarch/memmove-vec-unaligned-erms.S` of glibc 2.36, which calls it page aliasing.
const LARGE: usize = 1 << 20;

/// What the C library takes for the length of a page.
const PAGE: usize = 4096;

/// A copy of what a caller lent.
#[derive(Debug, Default)]
pub(super) struct Staging(Vec<u8>);

impl Staging {
    /// Memory for `bytes` bytes, and a few more, whose pages are there already.
    ///
    /// # Errors
    ///
    /// Kind `Io` when there is not so much.
    pub(super) fn prefaulted(bytes: usize) -> Result<Self> {
        let mut memory = Self::default();
        memory.reserve(bytes)?;
        memory.0.resize(memory.0.capacity(), 0);
        Ok(memory)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Forgets what was there, copies the parts in order, and says where each one is.
    ///
    /// # Errors
    ///
    /// Kind `Io` when there is not so much memory.
    pub(super) fn fill<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Vec<Range<usize>>> {
        let room = |part: &[u8]| part.len() + if part.len() < LARGE { 0 } else { PAGE };
        self.0.clear();
        self.reserve(parts.clone().map(room).sum())?;
        let places = parts.map(|part| {
            if part.len() >= LARGE {
                let end = self.0.as_ptr() as usize + self.0.len();
                let gap = (part.as_ptr() as usize).wrapping_sub(end) % PAGE;
                self.0.resize(self.0.len() + gap, 0);
            }
            let begin = self.0.len();
            self.0.extend_from_slice(part);
            begin..self.0.len()
        });
        Ok(places.collect())
    }

    fn reserve(&mut self, bytes: usize) -> Result<()> {
        if self.0.capacity() >= bytes {
            return Ok(());
        }
        // What was there is not copied to the larger memory.
        self.0 = Vec::new();
        let slack = (bytes / 8).min(MOST_SLACK) + bytes / 256;
        let room = bytes.saturating_add(slack);
        self.0.try_reserve_exact(room).map_err(|error| {
            Error::new(
                ErrorKind::Io,
                format!("there is no memory for a copy of {bytes} bytes"),
            )
            .with_hint("save it in the foreground, which needs no copy")
            .with_source(error)
        })?;
        if bytes >= HUGE_FROM {
            ask_for_huge_pages(self.0.spare_capacity_mut());
        }
        Ok(())
    }
}

fn ask_for_huge_pages(memory: &mut [std::mem::MaybeUninit<u8>]) {
    let page = rustix::param::page_size();
    let begin = memory.as_mut_ptr() as usize;
    let aligned = begin.next_multiple_of(page);
    let Some(length) = (begin + memory.len()).checked_sub(aligned) else {
        return;
    };
    #[expect(unsafe_code, reason = "madvise(2) takes an address")]
    // SAFETY: the range lies within `memory`, which is ours alone; this advice never changes what memory holds.
    let _ = unsafe {
        rustix::mm::madvise(
            memory.as_mut_ptr().add(aligned - begin).cast(),
            length / page * page,
            rustix::mm::Advice::LinuxHugepage,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_grows_by_a_digit_needs_no_fresh_memory_and_large_parts_lie_well() {
        let arrays = vec![7_u8; 3 * LARGE];
        let mut prepared = Staging::prefaulted(arrays.len()).expect("memory");
        let before = prepared.bytes().as_ptr();
        for value in [&b"{\"step\":9}"[..], b"{\"step\":10}"] {
            let parts = [value, &arrays[..LARGE], &arrays[LARGE..], b"end"];
            let places = prepared.fill(parts.into_iter()).expect("memory");
            assert_eq!(prepared.bytes().as_ptr(), before);
            for (part, place) in parts.into_iter().zip(places) {
                let copy = &prepared.bytes()[place];
                assert_eq!(copy, part);
                let apart = (copy.as_ptr() as usize).wrapping_sub(part.as_ptr() as usize);
                assert!(part.len() < LARGE || apart.is_multiple_of(PAGE));
            }
        }
    }
}
