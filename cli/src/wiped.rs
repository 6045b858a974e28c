//! Reading what may be a secret, so that no copy of it stays behind in memory.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// Reads to the end, but no more than one byte over `limit`: a longer result means the source is too long.
///
/// The buffer grows by copying into a new one, so that no unwiped copy stays behind.
///
/// # Errors
///
/// What the source says.
pub fn read_wiped(source: impl Read, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    read_wiped_of(source, 0, limit)
}

/// The same of something that is said to have `size` bytes, so that it is not copied as it grows.
///
/// # Errors
///
/// As [`read_wiped`].
pub fn read_wiped_of(
    mut source: impl Read,
    size: u64,
    limit: usize,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = usize::try_from(size).unwrap_or(limit).min(limit);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.max(8192)));
    let mut chunk = Zeroizing::new([0; 8192]);
    while bytes.len() <= limit {
        let size = match source.read(&mut *chunk) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.len() + size > bytes.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * bytes.capacity() + size));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(chunk.get(..size).unwrap_or_default());
    }
    Ok(bytes)
}
