//! Signed extension images.

pub mod adapt;
mod collect;
mod content;
mod contexts;
pub mod dracut;
pub mod erofs;
mod error;
mod finding;
mod gpt;
mod image;
pub mod initrd;
mod manifest;
mod name;
pub mod needs;
mod package;
mod partition;
mod plan;
mod rebuild;
pub mod recipe;
mod release;
mod signature;
pub mod squashfs;
pub mod startup;
mod supply;
mod tree;
#[cfg(test)]
mod vector;
mod verity;
mod window;

pub use collect::{System, Wishes};
pub use contexts::FileContexts;
pub use error::{Error, FormatError};
pub use finding::{Check, Finding};
pub use image::{
    CertificateDescription, Description, FileSystemDescription, Image, PartitionDescription, Parts,
    Requirements, SignatureDescription, VerityDescription,
};
pub use manifest::Manifest;
pub use name::Name;
pub use package::{Package, PackageDatabase, PackageRecord, PackagedFiles};
pub use partition::{Architecture, Designator, Guid, PartitionType, Role};
pub use plan::{Format, Packages, Plan, Report};
pub use rebuild::Rebuilt;
pub use release::{ImageClass, Release, Scope};
pub use signature::{RootHashSignature, Signer};
pub use supply::supply;
pub use tree::{
    Content, ContentReader, Difference, Differing, Entry, Kind, Tree, escape, is_portable_xattr,
};
pub use verity::RootHash;
pub use window::Window;

pub use ukikit_signing::{Certificate, Certificates, KeyPair, PrivateKey};
