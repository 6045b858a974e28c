//! First boot: metadata of a cloud, a hypervisor or an installer becomes the host's configuration, sealed to its TPM, once.
//!
//! ```text
//! Source ─ Metadata ─ signed_by ─┐
//! Record, Machine ───────────────┴ decide ─ Configuration ─ host::Plan ─ host::Apply ─ one change of the ESP, Record
//! ```
//!
//! Everything up to `Configuration` is a function of the metadata's bytes; what follows is what `ukikit host apply` does.

mod cloud_config;
mod configuration;
mod document;
mod firmware;
mod iso9660;
mod metadata;
mod networks;
mod policy;
mod record;
mod signature;
mod wipe;

pub use cloud_config::{CloudConfig, User, WrittenFile};
pub use configuration::Configuration;
pub use document::{CLOUD_CONFIG, MetaData, meta_data};
pub use firmware::{file as firmware_file, strings as smbios_strings};
pub use iso9660::Iso9660;
pub use metadata::{Files, Metadata, Source};
pub use networks::Networks;
pub use policy::{Decision, Facts, Machine, Origin, Unsigned, decide};
pub use record::Record;
pub use signature::{AllowedSigners, NAMESPACE, signed_by};
pub use wipe::wipe;
