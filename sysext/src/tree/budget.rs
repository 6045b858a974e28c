//! How much memory the list of what a foreign image holds may take.

use crate::Error;

/// More than any installed system needs; a million and a half files with usual names.
const LIMIT: usize = 512 << 20;
/// What an entry takes beside its path, about.
const ENTRY: usize = 256;

/// Counts down while an image is read: a small one can name the same bytes any number of times.
#[derive(Debug)]
pub(crate) struct Budget {
    format: &'static str,
    left: usize,
}

impl Budget {
    /// For an image of this format.
    pub(crate) fn new(format: &'static str) -> Self {
        Self {
            format,
            left: LIMIT,
        }
    }

    /// Takes an allocation of `len` bytes into account.
    pub(crate) fn spend(&mut self, len: usize) -> Result<(), Error> {
        self.left = self
            .left
            .checked_sub(len.saturating_add(ENTRY))
            .ok_or_else(|| Error::FileSystem {
                format: self.format,
                source: "the names and attributes in it take more than 512 MiB".into(),
            })?;
        Ok(())
    }
}
