//! The boot partition: what lies beside a unified kernel image, and the image itself.
//!
//! systemd-stub picks up companions - credentials, extension images, addons - from fixed places on
//! the partition the UKI was loaded from, by fixed rules. This crate knows the places and the rules;
//! it takes bytes and a kind, and does not look into credentials or images.

mod change;
mod companion;
mod error;
mod esp;
mod list;
mod pe;
mod target;
mod uki;

pub use change::{Action, Change, Changes};
pub use companion::{Companion, Kind, Name, NameRule};
pub use error::{Error, FormatError};
pub use esp::Esp;
pub use list::{Entry, Note};
pub use pe::{Architecture, Pe};
pub use target::{PathRule, Target, UkiPath};
pub use uki::Uki;
