//! One file per host: what it is to be, and from that the credentials, the extensions and the places of both.
//!
//! ```text
//! HOST.toml ─ HostFile ─ Wanted ─┬─ credentials ─ sealed to the identity ─┐
//!                                └─ recipes ─ images that are there ──────┴─ one change of the ESP
//! ```
//!
//! Everything up to `Wanted` is a function of the file's text alone. Secrets are read when they are sealed, never before.

mod apply;
mod file;
pub mod import;
mod luks;
mod mount;
mod network;
mod plan;
mod provision;
mod recovery;
mod report;
mod seal;
mod source;
mod state;
mod storage;
mod unit;
mod wanted;
mod word;

pub use apply::{Applied, Apply};
pub use file::{HostFile, directory, schema};
pub use luks::Luks;
pub use mount::{Mount, Nfs, Root};
pub use network::{Bond, BondMode, Bridge, Dhcp, Network, Vlan};
pub use plan::{Destination, Plan};
pub use provision::{By, Provision};
pub use recovery::{Recovery, RecoveryFile};
pub use report::Report;
pub use seal::Seal;
pub use source::{Part, Shape, Source, Sources};
pub use state::State;
pub use storage::{Chap, Iscsi, Mutual, Nbd, NvmeTcp};
pub use unit::{File, Mode, Unit};
pub use wanted::{Wanted, WantedCredential};
pub use word::{
    AbsolutePath, Address, AddressWithPrefix, CredentialName, Device, FsType, HostName,
    InterfaceName, IscsiName, MacAddress, MachineId, MountOption, MountSource, Nqn, Portal,
    RecipeName, Server, Token, UnitName, VolumeName,
};

pub(crate) use mount::escaped as fstab_field;
pub(crate) use network::files as network_files;
pub(crate) use unit::{credential_of_file, shown_path as tmpfiles_path};

/// The first interface that is wrong, as a sentence.
pub(crate) fn check_networks(networks: &[Network]) -> anyhow::Result<()> {
    let wrong = network::check(networks);
    wrong.map_err(|(at, what)| anyhow::anyhow!("interface {}: {what}", at + 1))
}

#[cfg(test)]
mod tests;
