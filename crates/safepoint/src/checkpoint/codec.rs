//! One frame: compressed where that pays, and back.

use zstd::bulk::{Compressor, Decompressor};

use super::format::table::{Codec, Frame};
use super::format::{FRAME_BYTES, MAX_RATIO, checksum, damaged};
use crate::error::{Error, ErrorKind, Result};

/// What a caller wants of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// A frame is compressed if a sample of it shrinks by a fifth: text and zeros do, trained weights do not.
    #[default]
    WherePays,
    /// Nothing is compressed.
    Never,
}

/// zstd's level 1: beyond it, time grows faster than size shrinks, and a save is waited for.
const LEVEL: i32 = 1;
/// A sample is this many slices of a frame, of this many bytes each: 20 µs for 2 MiB.
const SAMPLES: usize = 3;
const SAMPLE_BYTES: usize = 8 << 10;
/// A sample that does not shrink to this many percent is not worth the time of compressing and decompressing.
const WORTH_PERCENT: usize = 80;

/// Turns payload into what is stored; one for each worker.
pub(super) struct Packer {
    compressor: Option<Compressor<'static>>,
    packed: Vec<u8>,
    gathered: Vec<u8>,
}

/// A frame ready to be written.
pub(super) struct Packed<'a> {
    pub(super) stored: &'a [u8],
    pub(super) crc: u32,
    pub(super) codec: Codec,
}

impl Packer {
    pub(super) fn new(compression: Compression) -> Self {
        let compressor = match compression {
            Compression::Never => None,
            // It fails only for want of memory; then nothing is compressed.
            Compression::WherePays => Compressor::new(LEVEL).ok(),
        };
        Self {
            compressor,
            packed: Vec::new(),
            gathered: Vec::new(),
        }
    }

    /// Packs one frame. A frame in one slice that stays raw is not copied.
    pub(super) fn pack<'a>(&'a mut self, mut slices: impl Iterator<Item = &'a [u8]>) -> Packed<'a> {
        let first = slices.next().unwrap_or_default();
        let raw = match slices.next() {
            None => first,
            Some(second) => {
                self.gathered.clear();
                self.gathered.reserve(FRAME_BYTES);
                for slice in [first, second].into_iter().chain(slices) {
                    self.gathered.extend_from_slice(slice);
                }
                &self.gathered
            }
        };
        let packed = self
            .compressor
            .as_mut()
            .filter(|_| !raw.is_empty())
            .and_then(|compressor| compress(compressor, raw, &mut self.packed));
        let (stored, codec) = match packed {
            Some(packed) => (packed, Codec::Zstd),
            None => (raw, Codec::Raw),
        };
        Packed {
            stored,
            crc: checksum(stored),
            codec,
        }
    }
}

/// `None` where the frame is better stored raw.
fn compress<'a>(
    compressor: &mut Compressor<'_>,
    raw: &[u8],
    packed: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    // The bound of the largest frame, taken once, so that the memory is reused from frame to frame.
    let bound = zstd::zstd_safe::compress_bound(raw.len().max(SAMPLE_BYTES)) + SKIPPABLE_HEAD;
    packed.resize(bound.max(packed.len()), 0);
    if raw.len() > SAMPLES * SAMPLE_BYTES {
        let stride = (raw.len() - SAMPLE_BYTES) / (SAMPLES - 1);
        let mut sampled = 0;
        for sample in 0..SAMPLES {
            let at = sample * stride;
            sampled += compressor
                .compress_to_buffer(&raw[at..at + SAMPLE_BYTES], &mut packed[..])
                .ok()?;
        }
        if sampled * 100 > SAMPLES * SAMPLE_BYTES * WORTH_PERCENT {
            return None;
        }
    }
    let length = compressor.compress_to_buffer(raw, &mut packed[..]).ok()?;
    if length * 100 > raw.len() * WORTH_PERCENT {
        return None;
    }
    let length = pad(packed, length, raw.len());
    Some(&packed[..length])
}

/// The magic number and length of a zstd frame that readers skip. Source: RFC 8878, section 3.1.2.
const SKIPPABLE_HEAD: usize = 8;
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;

/// Makes what was packed at least as long as [`MAX_RATIO`] asks for, by a skippable frame behind it.
fn pad(packed: &mut [u8], length: usize, raw: usize) -> usize {
    let least = raw.div_ceil(usize::try_from(MAX_RATIO).unwrap_or(1));
    if length >= least {
        return length;
    }
    let filler = least.saturating_sub(length + SKIPPABLE_HEAD);
    let end = length + SKIPPABLE_HEAD + filler;
    packed[length..length + 4].copy_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    let filler = u32::try_from(filler).unwrap_or(0);
    packed[length + 4..length + 8].copy_from_slice(&filler.to_le_bytes());
    packed[length + SKIPPABLE_HEAD..end].fill(0);
    end
}

/// Turns what is stored into payload; one for each worker.
pub(super) struct Unpacker {
    decompressor: Option<Decompressor<'static>>,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        Self {
            decompressor: None,
            stored: Vec::new(),
            raw: Vec::new(),
        }
    }

    /// Fills `slots` with a frame's payload; `read` reads what is stored, at the frame's place. The checksum is looked at before
    /// anything is decompressed.
    ///
    /// # Errors
    ///
    /// As `read`; kind `Corrupt` when the checksum is wrong or the frame does not decompress to just what fits.
    pub(super) fn unpack(
        &mut self,
        number: usize,
        frame: &Frame,
        slots: &mut [&mut [u8]],
        read: impl Fn(&mut [u8], u64) -> Result<()>,
    ) -> Result<()> {
        let raw_bytes = slots.iter().map(|slot| slot.len()).sum();
        let check = |stored: &[u8]| {
            if checksum(stored) == frame.crc() {
                Ok(())
            } else {
                Err(damaged(format!("frame {number} fails its checksum")))
            }
        };
        match (frame.codec(), &mut *slots) {
            (Codec::Raw, [slot]) => {
                read(slot, frame.at())?;
                check(slot)
            }
            (Codec::Raw, slots) => {
                self.raw.resize(raw_bytes, 0);
                read(&mut self.raw, frame.at())?;
                check(&self.raw)?;
                scatter(&self.raw, slots);
                Ok(())
            }
            (Codec::Zstd, slots) => {
                self.stored.resize(frame.stored_bytes(), 0);
                read(&mut self.stored, frame.at())?;
                check(&self.stored)?;
                let decompressor = match &mut self.decompressor {
                    Some(decompressor) => decompressor,
                    none => none.insert(Decompressor::new().map_err(|error| {
                        Error::new(ErrorKind::Io, "there is no memory to decompress with")
                            .with_source(error)
                    })?),
                };
                let mut decompress =
                    |raw: &mut [u8]| match decompressor.decompress_to_buffer(&self.stored, raw) {
                        Ok(length) if length == raw_bytes => Ok(()),
                        _ => Err(damaged(format!("frame {number} does not decompress"))),
                    };
                if let [slot] = slots {
                    decompress(slot)
                } else {
                    self.raw.resize(raw_bytes, 0);
                    decompress(&mut self.raw)?;
                    scatter(&self.raw, slots);
                    Ok(())
                }
            }
        }
    }
}

fn scatter(mut raw: &[u8], slots: &mut [&mut [u8]]) {
    for slot in slots {
        let (here, rest) = raw.split_at(slot.len());
        slot.copy_from_slice(here);
        raw = rest;
    }
}
