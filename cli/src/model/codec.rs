//! Whether the kernel unpacks an image: EROFS names the algorithms it uses in 16 bits of its superblock (Linux's
//! `fs/erofs/erofs_fs.h`, `available_compr_algs`), and the kernel mounts no image with one that it lacks.

use ukikit_sysext::Description;

use crate::Base;

/// By their bits.
const ALGORITHMS: [&str; 4] = ["lz4", "lzma", "deflate", "zstd"];

/// Where the superblock is in its partition.
const SUPERBLOCK: usize = 1024;
/// Says that the bits of the algorithms are there.
const COMPR_CFGS: u32 = 2;

/// The first algorithm of the image that the kernel does not know; `None` too where its modules do not tell.
pub(super) fn unknown(
    file: &[u8],
    description: Option<&Description>,
    base: Option<&Base>,
) -> Option<&'static str> {
    let codecs = base?.kernel()?.erofs_codecs.as_ref()?;
    let used = algorithms(file, description?)?;
    let knows = |name: &str| codecs.iter().any(|codec| codec.as_str() == name);
    let bits = (0..u16::BITS).filter(|bit| used & (1 << bit) != 0);
    bits.map(|bit| {
        usize::try_from(bit)
            .ok()
            .and_then(|bit| ALGORITHMS.get(bit))
    })
    .find(|name| !name.is_some_and(|name| knows(name)))
    .map(|name| name.copied().unwrap_or("something newer"))
}

fn algorithms(file: &[u8], description: &Description) -> Option<u16> {
    let data = description.partitions.iter().find(|partition| {
        let kind = partition.kind.as_deref().unwrap_or_default();
        !kind.is_empty() && !kind.contains("verity")
    })?;
    let start = usize::try_from(data.offset).ok()?.checked_add(SUPERBLOCK)?;
    let superblock = file.get(start..)?.first_chunk::<128>()?;
    let (features, _) = superblock.get(80..)?.split_first_chunk()?;
    let (algorithms, _) = superblock.get(84..)?.split_first_chunk()?;
    let configured = u32::from_le_bytes(*features) & COMPR_CFGS != 0;
    configured.then(|| u16::from_le_bytes(*algorithms))
}
