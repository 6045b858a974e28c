//! The boot partition: what lies beside a unified kernel image, and the image itself.
//!
//! systemd-stub picks up companions - credentials, extension images, addons - from fixed places on
//! the partition the UKI was loaded from, by fixed rules. This crate knows the places and the rules;
//! it takes bytes and a kind, and does not look into credentials or images.
//!
//! ```
//! use ukikit_esp::{Companion, Esp, Target};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # std::fs::create_dir_all(directory.path().join("EFI/Linux")).unwrap();
//! # std::fs::write(directory.path().join("EFI/Linux/vendor+3-0.efi"), "").unwrap();
//! # let mount_point = directory.path();
//! let esp = Esp::at(mount_point)?;
//! let target = Target::Uki("EFI/Linux/vendor.efi".parse()?);
//! let credential = Companion::new("fstab.extra.cred".parse()?, b"Base64".to_vec())?;
//!
//! let changes = esp.place(&target, vec![credential])?;
//! assert_eq!(
//!     changes.to_string(),
//!     "add      EFI/Linux/vendor.efi.extra.d/fstab.extra.cred (6 bytes)\n"
//! );
//! changes.apply(&esp)?;
//! # Ok::<(), ukikit_esp::Error>(())
//! ```

mod addon;
mod apply;
mod archive;
mod authenticode;
mod boot;
mod change;
mod companion;
mod digest;
mod entry;
mod error;
mod esp;
mod event_log;
mod history;
mod journal;
mod list;
mod measure;
mod pe;
mod plan;
mod scan;
mod target;
mod trial;
mod uki;
pub mod volume;

pub use addon::{AddonFinding, AddonImage, AddonTarget, Sbat, SbatEntry, check_addon};
pub use apply::{Recovered, Undo};
pub use archive::{Archive, ArchiveKind};
pub use authenticode::{PeDigest, PeSignature, SignablePe};
pub use boot::{Addon, AddonVerdict, Boot, BootFiles, Event, File, Measurement, Start};
pub use change::{Action, Change, Changes, Room};
pub use companion::{Companion, Kind, Name, NameRule};
pub use entry::LoaderEntry;
pub use error::{Error, FormatError};
pub use esp::Esp;
pub use event_log::{EventLog, Logged};
pub use history::Owner;
#[doc(hidden)]
pub use journal::journal_round_trip;
pub use list::{Entry, Note};
pub use measure::{Bank, Hash};
pub use pe::{Architecture, Pe};
pub use plan::Placing;
pub use target::{PathRule, Target, UkiPath};
pub use trial::{NoTrial, Trial};
pub use uki::Uki;
