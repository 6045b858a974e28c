//! An initrd as a tree, as Linux's `init/initramfs.c` unpacks it; and a tree as an archive for it.
//!
//! ```text
//! archive │ zeros │ archive │ …      each a newc cpio archive, as it is or compressed
//! ```
//!
//! Later archives put their files over those of earlier ones.

mod compression;
mod cpio;
mod facts;
mod kernel;
pub(crate) mod module;
#[cfg(test)]
mod tests;
mod writer;

use std::borrow::Cow;
use std::sync::Arc;

use compression::Compression;
pub use facts::{Dracut, Facts, Lack};
pub use kernel::{Codec, Kernel, ModuleIndex, Support};
pub use writer::{Packing, write};

use crate::{Error, FormatError, Tree};

/// The most an initrd may hold unpacked; machines boot from less.
const LIMIT: usize = 2 << 30;

/// Reads an initrd: zstd, xz, gzip, bzip2, LZMA, legacy LZ4 and plain archives in any order. Symbolic links in
/// the directory part of a path are followed inside the tree.
///
/// # Errors
///
/// [`Error::Format`] for bytes that are no archive, damaged or truncated, and when they unpack to more than
/// 2 GiB; [`Error::Entry`] for a path that is absolute or leads upwards.
pub fn read(bytes: &[u8]) -> Result<Tree, Error> {
    read_limited(bytes, LIMIT)
}

/// Puts the files of another initrd over those of `base`, as the kernel does with what comes behind: the initrds of addons.
///
/// # Errors
///
/// As [`read`].
pub fn read_over(base: Tree, bytes: &[u8]) -> Result<Tree, Error> {
    read_limited_over(base, bytes, LIMIT)
}

/// What a file holds that is perhaps compressed as an initrd may be, kernel modules for instance.
///
/// # Errors
///
/// [`Error::Format`] when it is compressed and damaged, or holds more than `limit` bytes.
pub fn unpack(bytes: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, Error> {
    let Some(compression) = Compression::of(bytes) else {
        return Ok(bytes.into());
    };
    let damaged = |what| FormatError::new(0, format!("{compression} file: {what}"));
    let (_, unpacked) = compression.unpack(bytes, limit).map_err(damaged)?;
    Ok(unpacked.into())
}

/// [`read`] with another limit for what is unpacked.
fn read_limited(bytes: &[u8], left: usize) -> Result<Tree, Error> {
    read_limited_over(Tree::new(), bytes, left)
}

fn read_limited_over(base: Tree, bytes: &[u8], mut left: usize) -> Result<Tree, Error> {
    let mut archives = cpio::Archives::over(base);
    let mut rest = skip_zeros(bytes);
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let used = match Compression::of(rest) {
            None => archives.read(rest, None).map_err(|fault| fault.at(at))?,
            Some(compression) => {
                let (used, unpacked) = compression.unpack(rest, left).map_err(|what| {
                    FormatError::new(at as u64, format!("{compression} archive: {what}"))
                })?;
                left = left.saturating_sub(unpacked.len());
                read_unpacked(&mut archives, &Arc::new(unpacked))
                    .map_err(|fault| fault.inside(at, compression))?;
                used
            }
        };
        rest = skip_zeros(rest.get(used..).unwrap_or_default());
    }
    Ok(archives.tree)
}

/// All archives in what was compressed together. Its files share these bytes.
fn read_unpacked(
    archives: &mut cpio::Archives,
    unpacked: &Arc<Vec<u8>>,
) -> Result<(), cpio::Fault> {
    let mut rest = skip_zeros(unpacked);
    while !rest.is_empty() {
        let at = unpacked.len() - rest.len();
        let shared = Some((unpacked, at));
        let used = archives
            .read(rest, shared)
            .map_err(|fault| fault.after(at))?;
        rest = skip_zeros(rest.get(used..).unwrap_or_default());
    }
    Ok(())
}

fn skip_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
