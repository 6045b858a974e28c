//! The codecs, and how a piece of data becomes blocks of an image.
//!
//! ```text
//! piece     up to one cluster of a file, compressed by itself
//! blocks    0 0 0 … │ LZ4 block or zstd frame │        right-aligned: neither starts with a zero byte
//!           the piece │ 0 0 0 …                        plain, unless a block is saved
//! ```

use std::fmt;
use std::str::FromStr;

use lz4::block::CompressionMode;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::format::{BLOCK_LEN, Lz4Config, ZstdConfig};
use crate::Error;

/// What any kernel decodes at once, in bytes.
pub(super) const CLUSTER_MAX: u32 = 1 << 20;

/// How file data is compressed. Parsed from and shown as `none`, `lz4`, `zstd`, with `,LEVEL` behind when
/// the level is not the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4 by its high compression encoder; every kernel that mounts EROFS decodes it.
    Lz4 {
        /// 1 to 12.
        level: u8,
    },
    /// Zstandard; decoded by Linux 6.10 and later, where `EROFS_FS_ZIP_ZSTD` is on.
    Zstd {
        /// 1 to 22.
        level: u8,
    },
}

impl Compression {
    /// LZ4 at its usual level.
    pub const LZ4: Self = Self::Lz4 { level: 9 };
    /// Zstandard at its usual level.
    pub const ZSTD: Self = Self::Zstd { level: 3 };

    /// Bytes that are compressed together, or hashed while they are in the processor's cache, unless asked
    /// otherwise. Larger clusters make smaller images, and
    /// cost nothing where the whole cluster is wanted in the end. But of one in LZ4 the kernel decodes
    /// what stands before the wanted page, again for each page of a packed file.
    pub(super) fn default_cluster(self) -> u32 {
        match self {
            Self::None => 256 * 1024,
            Self::Lz4 { .. } => 128 * 1024,
            Self::Zstd { .. } => 512 * 1024,
        }
    }

    /// Its number on disk.
    pub(super) fn algorithm(self) -> u8 {
        match self {
            Self::None | Self::Lz4 { .. } => 0,
            Self::Zstd { .. } => 3,
        }
    }

    /// What stands behind the superblock of an image with clusters of this size.
    pub(super) fn config(self, cluster: u32) -> Vec<u8> {
        let size = |whole: usize| U16::new(u16::try_from(whole - 2).unwrap_or_default());
        match self {
            Self::None => Vec::new(),
            Self::Lz4 { .. } => Lz4Config {
                size: size(size_of::<Lz4Config>()),
                max_distance: U16::new(u16::MAX),
                max_blocks: U16::new(u16::try_from(cluster / 4096).unwrap_or_default()),
                reserved: [0; 10],
            }
            .as_bytes()
            .to_vec(),
            Self::Zstd { .. } => ZstdConfig {
                size: size(size_of::<ZstdConfig>()),
                format: 0,
                window: u8::try_from(window_log(cluster) - 10).unwrap_or_default(),
                reserved: [0; 4],
            }
            .as_bytes()
            .to_vec(),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("none"),
            Self::LZ4 => f.write_str("lz4"),
            Self::ZSTD => f.write_str("zstd"),
            Self::Lz4 { level } => write!(f, "lz4,{level}"),
            Self::Zstd { level } => write!(f, "zstd,{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (codec, level) = match text.split_once(',') {
            Some((codec, level)) => (codec, Some(level)),
            None => (text, None),
        };
        let level = |usual: Self, most: u8| match level.map(str::parse::<u8>) {
            None => Ok(usual),
            Some(Ok(level)) if (1..=most).contains(&level) => Ok(usual.with_level(level)),
            Some(_) => Err(Error::value(format!(
                "`{text}`: levels of {codec} are 1 to {most}"
            ))),
        };
        match codec {
            "none" if text == codec => Ok(Self::None),
            "lz4" => level(Self::LZ4, 12),
            "zstd" => level(Self::ZSTD, 22),
            _ => Err(Error::value(format!(
                "`{text}` is not none, lz4 or zstd, with or without `,LEVEL`"
            ))),
        }
    }
}

impl Compression {
    fn with_level(self, level: u8) -> Self {
        match self {
            Self::None => Self::None,
            Self::Lz4 { .. } => Self::Lz4 { level },
            Self::Zstd { .. } => Self::Zstd { level },
        }
    }
}

/// Clusters are no larger than the window, so that a decoder needs no more memory than one.
fn window_log(cluster: u32) -> u32 {
    cluster.next_power_of_two().ilog2()
}

/// One thread's codec and its memory.
pub(super) struct Encoder {
    codec: Codec,
    buffer: Vec<u8>,
}

enum Codec {
    None,
    Lz4(i32),
    Zstd(Compressor<'static>),
}

impl Encoder {
    pub(super) fn new(compression: Compression, cluster: u32) -> Result<Self, Error> {
        let codec = match compression {
            Compression::None => Codec::None,
            Compression::Lz4 { level } => Codec::Lz4(level.into()),
            Compression::Zstd { level } => {
                let mut compressor = Compressor::new(level.into()).map_err(Error::write)?;
                let window = CParameter::WindowLog(window_log(cluster));
                compressor.set_parameter(window).map_err(Error::write)?;
                Codec::Zstd(compressor)
            }
        };
        Ok(Self {
            codec,
            buffer: Vec::new(),
        })
    }

    /// The blocks of `piece`, compressed; `None` when that saves none.
    pub(super) fn encode(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let limit = piece.len().div_ceil(BLOCK_LEN).checked_sub(1)? * BLOCK_LEN;
        if self.buffer.len() < limit {
            self.buffer.resize(limit, 0);
        }
        let buffer = self.buffer.get_mut(..limit).filter(|to| !to.is_empty())?;
        // The only error that can come is that it does not fit.
        let size = match &mut self.codec {
            Codec::None => return None,
            Codec::Lz4(level) => {
                let mode = CompressionMode::HIGHCOMPRESSION(*level);
                lz4::block::compress_to_buffer(piece, Some(mode), false, buffer)
            }
            Codec::Zstd(compressor) => compressor.compress_to_buffer(piece, buffer),
        };
        let compressed = buffer.get(..size.ok()?)?;
        let mut blocks = vec![0; compressed.len().next_multiple_of(BLOCK_LEN)];
        let padding = blocks.len() - compressed.len();
        blocks.get_mut(padding..)?.copy_from_slice(compressed);
        Some(blocks)
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    #[test]
    fn reads_what_it_shows() {
        let cases = [
            ("none", Compression::None),
            ("lz4", Compression::Lz4 { level: 9 }),
            ("lz4,12", Compression::Lz4 { level: 12 }),
            ("zstd", Compression::Zstd { level: 3 }),
            ("zstd,22", Compression::Zstd { level: 22 }),
        ];
        for (text, expected) in cases {
            let parsed: Compression = text.parse().unwrap();
            assert_eq!((parsed, parsed.to_string().as_str()), (expected, text));
        }
    }

    #[test]
    fn refuses_other_codecs_and_levels() {
        let not = "is not none, lz4 or zstd, with or without `,LEVEL`";
        let cases = [
            ("xz", format!("`xz` {not}")),
            ("", format!("`` {not}")),
            ("none,1", format!("`none,1` {not}")),
            ("lz4,13", "`lz4,13`: levels of lz4 are 1 to 12".into()),
            ("lz4,", "`lz4,`: levels of lz4 are 1 to 12".into()),
            ("zstd,0", "`zstd,0`: levels of zstd are 1 to 22".into()),
            ("zstd,300", "`zstd,300`: levels of zstd are 1 to 22".into()),
        ];
        for (text, expected) in cases {
            let message = text.parse::<Compression>().unwrap_err().to_string();
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn compresses_when_a_block_is_saved() {
        let blocks = (0..512_u32).map(|n| sha2::Sha256::digest(n.to_le_bytes()));
        let noise: Vec<u8> = blocks.flatten().collect();
        let cases: [(&[u8], Option<usize>); 5] = [
            (&[], None),
            (&[7; 4096], None),
            (&[7; 4097], Some(4096)),
            (&[7; 65536], Some(4096)),
            (&noise, None),
        ];
        for compression in [Compression::LZ4, Compression::ZSTD] {
            let mut encoder = Encoder::new(compression, 65536).unwrap();
            for (piece, expected) in cases {
                let blocks = encoder.encode(piece);
                assert_eq!(blocks.as_ref().map(Vec::len), expected, "{compression}");
            }
        }
        let mut plain = Encoder::new(Compression::None, 65536).unwrap();
        assert_eq!(plain.encode(&[7; 65536]), None);
    }

    #[test]
    fn aligns_to_the_end_of_its_blocks() {
        let mut encoder = Encoder::new(Compression::LZ4, 65536).unwrap();
        let blocks = encoder.encode(&[7; 8192]).unwrap();
        let start = blocks.iter().position(|&byte| byte != 0).unwrap();
        let decoded = lz4_flex::block::decompress(&blocks[start..], 8192).unwrap();
        assert_eq!(decoded, [7; 8192]);
    }

    #[test]
    fn describes_itself_to_the_kernel() {
        let lz4 = b"\x0E\0\xFF\xFF\x10\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(Compression::LZ4.config(65536), lz4);
        assert_eq!(Compression::ZSTD.config(1 << 18), b"\x06\0\0\x08\0\0\0\0");
        assert_eq!(Compression::None.config(65536), b"");
    }
}
