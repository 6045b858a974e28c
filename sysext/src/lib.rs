//! Signed extension images.

mod certificate;
pub mod erofs;
mod error;
mod finding;
mod gpt;
pub mod initrd;
mod partition;
mod pem;
mod signature;
pub mod squashfs;
mod tree;
#[cfg(test)]
mod vector;
mod verity;
mod window;

pub use certificate::{Certificate, Certificates};
pub use error::{Error, FormatError};
pub use finding::{Check, Finding};
pub use partition::{Architecture, Designator, Guid, PartitionType, Role};
pub use signature::{KeyPair, PrivateKey, RootHashSignature, Signer};
pub use tree::{Content, ContentReader, Entry, Kind, Tree, is_portable_xattr};
pub use verity::RootHash;
pub use window::Window;
