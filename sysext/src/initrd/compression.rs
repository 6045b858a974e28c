//! The compressions the kernel knows for an initrd, except LZO, which is gone from distributions.

use std::fmt;
use std::io::{self, BufRead, Read};

use liblzma::stream::Stream;

/// A compression, by the first bytes of what it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Bzip2,
    Lzma,
    Xz,
    Lz4,
    Zstd,
}

/// As `lib/decompress.c` has them.
const MAGIC: [(&[u8], Compression); 6] = [
    (b"\x1f\x8b", Compression::Gzip),
    (b"BZh", Compression::Bzip2),
    (b"\x5d\0\0", Compression::Lzma),
    (b"\xfd7zXZ\0", Compression::Xz),
    (LZ4_MAGIC, Compression::Lz4),
    (b"\x28\xb5\x2f\xfd", Compression::Zstd),
];
const LZ4_MAGIC: &[u8] = b"\x02\x21\x4c\x18";
/// What a block of the legacy LZ4 format unpacks to at most.
const LZ4_BLOCK: usize = 8 << 20;
/// The largest packed block; a number above it begins something else.
const LZ4_PACKED: usize = LZ4_BLOCK + LZ4_BLOCK / 255 + 16;
/// What xz and LZMA may take for their dictionary: what level 9 needs, twice.
const DICTIONARY: u64 = 128 << 20;

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "LZMA",
            Self::Xz => "xz",
            Self::Lz4 => "LZ4",
            Self::Zstd => "zstd",
        })
    }
}

impl Compression {
    /// The compression that `bytes` begin with.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        MAGIC
            .iter()
            .find(|(magic, _)| bytes.starts_with(magic))
            .map(|(_, compression)| *compression)
    }

    /// Unpacks the one stream that `bytes` begin with, and those of the same kind directly behind it. Returns
    /// how many bytes they take and what they hold, `limit` bytes at most; or why not.
    pub(super) fn unpack(self, bytes: &[u8], limit: usize) -> Result<(usize, Vec<u8>), String> {
        let mut rest = bytes;
        let mut unpacked = Vec::new();
        while Self::of(rest) == Some(self) {
            self.unpack_one(&mut rest, &mut unpacked, limit)
                .map_err(|error| error.to_string())?;
        }
        Ok((bytes.len() - rest.len(), unpacked))
    }

    fn unpack_one(self, rest: &mut &[u8], unpacked: &mut Vec<u8>, limit: usize) -> io::Result<()> {
        match self {
            Self::Gzip => fill(flate2::bufread::GzDecoder::new(rest), unpacked, limit),
            Self::Bzip2 => fill(bzip2::bufread::BzDecoder::new(rest), unpacked, limit),
            Self::Lzma => fill(
                lzma(rest, Stream::new_lzma_decoder(DICTIONARY)?),
                unpacked,
                limit,
            ),
            Self::Xz => fill(
                lzma(rest, Stream::new_stream_decoder(DICTIONARY, 0)?),
                unpacked,
                limit,
            ),
            Self::Zstd => fill(
                zstd::Decoder::with_buffer(rest)?.single_frame(),
                unpacked,
                limit,
            ),
            Self::Lz4 => unpack_lz4(rest, unpacked, limit),
        }
    }
}

fn lzma<R: BufRead>(rest: R, stream: Stream) -> liblzma::bufread::XzDecoder<R> {
    liblzma::bufread::XzDecoder::new_stream(rest, stream)
}

/// Appends all that `reader` yields.
fn fill(reader: impl Read, unpacked: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let left = limit.saturating_sub(unpacked.len()) as u64;
    reader.take(left + 1).read_to_end(unpacked)?;
    if unpacked.len() > limit {
        Err(too_much())
    } else {
        Ok(())
    }
}

fn too_much() -> io::Error {
    io::Error::other("unpacks to more than 2 GiB in all")
}

/// The format of `lz4 -l`: blocks with their size in front, without an end mark.
fn unpack_lz4(rest: &mut &[u8], unpacked: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    *rest = rest.strip_prefix(LZ4_MAGIC).unwrap_or(rest);
    let mut block = vec![0; LZ4_BLOCK];
    while let Some((size, behind)) = rest.split_first_chunk() {
        let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
        if size == 0 || size > LZ4_PACKED {
            break;
        }
        let Some((packed, behind)) = behind.split_at_checked(size) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let len = lz4_flex::block::decompress_into(packed, &mut block).map_err(io::Error::other)?;
        unpacked.extend_from_slice(block.get(..len).unwrap_or_default());
        if unpacked.len() > limit {
            return Err(too_much());
        }
        *rest = behind;
    }
    Ok(())
}
