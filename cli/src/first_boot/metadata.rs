//! Metadata: the same few files, wherever they come from.
//!
//! ```text
//! directory, volume   user-data  meta-data  network-config  HOST.toml  SHA256SUMS  SHA256SUMS.sig     NoCloud, and ours
//!                     openstack/latest/{meta_data.json,user_data}                                     OpenStack config drive
//! a file              HOST.toml, or user-data when it begins with #cloud-config
//! firmware            the same names, as strings
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use ukikit_esp::volume::{Fat, FilePart, Volume as _};
use zeroize::Zeroizing;

use super::iso9660::Iso9660;
use super::policy::Origin;
use super::{document, firmware, signature};
use crate::read_wiped;

/// Files of metadata by name. They may hold secrets.
pub type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Bytes of a file: what clouds allow, and more than credentials on an ESP should take.
pub(super) const FILE_MAX: usize = 1 << 20;

pub(super) const HOST_FILE: &str = "HOST.toml";
pub(super) const USER_DATA: &str = "user-data";
pub(super) const META_DATA: &str = "meta-data";
pub(super) const NETWORK_CONFIG: &str = "network-config";

const KNOWN: [&str; 6] = [
    HOST_FILE,
    USER_DATA,
    META_DATA,
    NETWORK_CONFIG,
    signature::SUMS,
    signature::SIGNATURE,
];
/// What a config drive calls them.
const CONFIG_DRIVE: [(&str, &str); 4] = [
    ("openstack/latest/meta_data.json", META_DATA),
    ("openstack/latest/user_data", USER_DATA),
    ("openstack/latest/SHA256SUMS", signature::SUMS),
    ("openstack/latest/SHA256SUMS.sig", signature::SIGNATURE),
];

/// Every path at which a directory may have metadata.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter().chain(CONFIG_DRIVE.map(|(path, _)| path))
}

/// What we call the file of this name, which is a config drive's own or ours.
pub(super) fn known_as(name: &str) -> Option<&'static str> {
    let own = KNOWN.into_iter().find(|known| *known == name);
    let on_drive = || {
        let mut drive = CONFIG_DRIVE.into_iter();
        drive.find(|(path, _)| path.rsplit('/').next() == Some(name))
    };
    own.or_else(|| on_drive().map(|(_, known)| known))
}

/// Whether a file is part of metadata.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// The volumes that are looked for, by label as udev names them.
const LABELS: [&str; 4] = ["cidata", "CIDATA", "config-2", "CONFIG-2"];

/// Where metadata may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory, a volume or an image of one, or a file.
    Path(PathBuf),
    /// The volume with this label, below `/dev/disk/by-label`.
    Label(&'static str),
    /// SMBIOS strings of type 11.
    Smbios,
    /// QEMU's fw_cfg.
    FwCfg,
}

impl Source {
    /// The usual ones, in the order in which they are looked at.
    pub fn usual() -> Vec<Self> {
        let volumes = LABELS.map(Self::Label);
        volumes
            .into_iter()
            .chain([Self::FwCfg, Self::Smbios])
            .collect()
    }

    /// What is there, devices and sysfs below `root`; `None` when nothing is.
    ///
    /// # Errors
    ///
    /// A path that is not there or holds no metadata, a damaged volume, a file of more than a MiB.
    pub fn read(&self, root: &Path) -> Result<Option<Metadata>> {
        let (origin, place, files) = match self {
            Self::Path(path) => {
                let (origin, files) =
                    at_path(path).with_context(|| format!("cannot read `{}`", path.display()))?;
                ensure!(
                    !files.is_empty(),
                    "`{}` holds no metadata: neither HOST.toml, user-data, meta-data nor openstack/latest",
                    path.display()
                );
                (origin, path.display().to_string(), files)
            }
            Self::Label(label) => {
                let device = root.join("dev/disk/by-label").join(label);
                if !device.exists() {
                    return Ok(None);
                }
                let read = volume(&device)
                    .and_then(|files| files.context("it is neither ISO 9660 nor FAT"));
                let files = read.with_context(|| format!("cannot read the volume {label}"))?;
                (Origin::Volume, format!("volume {label}"), files)
            }
            Self::Smbios => (
                Origin::Firmware,
                "SMBIOS".to_owned(),
                firmware::smbios(root).context("cannot read SMBIOS strings")?,
            ),
            Self::FwCfg => (
                Origin::Firmware,
                "fw_cfg".to_owned(),
                firmware::fw_cfg(root).context("cannot read fw_cfg")?,
            ),
        };
        Ok((!files.is_empty()).then(|| Metadata::new(origin, place, files)))
    }

    /// What can be overwritten to take the secrets away.
    pub fn path(&self, root: &Path) -> Option<PathBuf> {
        match self {
            Self::Path(path) => Some(path.clone()),
            Self::Label(label) => Some(root.join("dev/disk/by-label").join(label)),
            Self::Smbios | Self::FwCfg => None,
        }
    }
}

/// What a source holds.
#[derive(Debug)]
#[non_exhaustive]
pub struct Metadata {
    /// Where it came from.
    pub origin: Origin,
    /// The same for people.
    pub place: String,
    /// Its files.
    pub files: Files,
}

impl Metadata {
    /// Of files that came from somewhere else.
    pub fn new(origin: Origin, place: String, files: Files) -> Self {
        Self {
            origin,
            place,
            files,
        }
    }

    /// The instance it is for: what meta-data says, else the SHA-256 of all files.
    ///
    /// # Errors
    ///
    /// meta-data that cannot be read.
    pub fn instance(&self) -> Result<String> {
        let told = match self.files.get(META_DATA) {
            Some(text) => document::meta_data(text).context(META_DATA)?.instance,
            None => None,
        };
        Ok(told.unwrap_or_else(|| self.digest()))
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, content) in &self.files {
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(Sha256::digest(content));
        }
        hex::encode(hash.finalize())
    }
}

fn at_path(path: &Path) -> Result<(Origin, Files)> {
    if fs::metadata(path)?.is_dir() {
        let read = |name: &str| match File::open(path.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => read_wiped(opened?, FILE_MAX).map(Some),
        };
        return Ok((Origin::Local, collect(read)?));
    }
    if let Some(files) = volume(path)? {
        return Ok((Origin::Volume, files));
    }
    let content = read_wiped(File::open(path)?, FILE_MAX)?;
    let name = if content.starts_with(document::CLOUD_CONFIG.as_bytes()) {
        USER_DATA
    } else {
        HOST_FILE
    };
    Ok((
        Origin::Local,
        Files::from([(name.to_owned(), checked(name, content)?)]),
    ))
}

/// What a volume holds, if it is one of a kind we read.
fn volume(path: &Path) -> Result<Option<Files>> {
    if let Some(mut iso) = Iso9660::open(File::open(path)?)? {
        return collect(|name| iso.read(name, FILE_MAX)).map(Some);
    }
    let Some(part) = FilePart::boot_partitions(path)?.into_iter().next() else {
        return Ok(None);
    };
    let fat = match Fat::open(part) {
        Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(None),
        opened => opened?,
    };
    let read = |name: &str| match fat.open(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => read_wiped(opened?, FILE_MAX).map(Some),
    };
    collect(read).map(Some)
}

/// The files of NoCloud and ours, or those of a config drive.
fn collect(mut read: impl FnMut(&str) -> io::Result<Option<Zeroizing<Vec<u8>>>>) -> Result<Files> {
    let mut files = Files::new();
    for name in KNOWN {
        if let Some(content) = read(name).context(name)? {
            files.insert(name.to_owned(), checked(name, content)?);
        }
    }
    if files.is_empty() {
        for (path, name) in CONFIG_DRIVE {
            if let Some(content) = read(path).context(path)? {
                files.insert(name.to_owned(), checked(path, content)?);
            }
        }
    }
    Ok(files)
}

fn checked(name: &str, content: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>> {
    ensure!(
        content.len() <= FILE_MAX,
        "{name} is longer than {FILE_MAX} bytes"
    );
    Ok(content)
}
