//! Signed extension images.

mod content;
pub mod erofs;
mod error;
mod finding;
mod gpt;
mod image;
pub mod initrd;
mod name;
mod partition;
mod plan;
mod release;
mod signature;
pub mod squashfs;
mod tree;
#[cfg(test)]
mod vector;
mod verity;
mod window;

pub use error::{Error, FormatError};
pub use finding::{Check, Finding};
pub use image::{
    CertificateDescription, Description, Image, PartitionDescription, Requirements,
    SignatureDescription, VerityDescription,
};
pub use name::Name;
pub use partition::{Architecture, Designator, Guid, PartitionType, Role};
pub use plan::{Format, Plan, Report};
pub use release::{ImageClass, Release, Scope};
pub use signature::{RootHashSignature, Signer};
pub use tree::{Content, ContentReader, Entry, Kind, Tree, is_portable_xattr};
pub use verity::RootHash;
pub use window::Window;

pub use ukikit_signing::{Certificate, Certificates, KeyPair, PrivateKey};
