//! What a file holds, told apart from any other content: its size and SHA-256.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Size and hash of the content of a file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// In bytes.
    pub(crate) size: u64,
    /// In lower case hexadecimal.
    pub(crate) sha256: String,
}

impl Content {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            size: crate::companion::size(bytes),
            sha256: hexadecimal(&Sha256::digest(bytes)),
        }
    }

    /// Reads to the end.
    pub(crate) fn read(mut file: impl Read) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = file.read(&mut buffer)?;
            let read = buffer.get(..count).unwrap_or_default();
            if read.is_empty() {
                break;
            }
            hash.update(read);
            size += crate::companion::size(read);
        }
        Ok(Self {
            size,
            sha256: hexadecimal(&hash.finalize()),
        })
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes, {})", self.size, self.sha256)
    }
}

/// The bytes in lower case.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
