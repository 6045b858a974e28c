//! Signed extension images.

pub mod adapt;
mod collect;
mod content;
pub mod erofs;
mod error;
mod finding;
mod gpt;
mod image;
pub mod initrd;
mod name;
pub mod needs;
mod partition;
mod plan;
pub mod recipe;
mod release;
mod signature;
pub mod squashfs;
pub mod startup;
mod tree;
#[cfg(test)]
mod vector;
mod verity;
mod window;

pub use collect::{System, Wishes};
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
