//! The boot partition: what lies beside a unified kernel image, and the image itself.
//!
//! systemd-stub picks up companions - credentials, extension images, addons - from fixed places on
//! the partition the UKI was loaded from, by fixed rules. This crate knows the places and the rules;
//! it takes bytes and a kind, and does not look into credentials or images.

mod companion;
mod error;
mod pe;
mod uki;

pub use error::{Error, FormatError};
pub use pe::{Architecture, Pe};
pub use uki::Uki;
