//! `[root]`, `[[mount]]` and `[nfs]`: lines of `fstab.extra`, which systemd-fstab-generator reads in the initrd.
//!
//! ```text
//! UUID=… / btrfs ro,subvol=@ 0 0
//! UUID=… /usr ext4 ro,x-initrd.mount 0 0
//! 192.0.2.7:/srv/root / nfs vers=4.2,x-systemd.requires=dev-ukikit-nfs.device 0 0
//! ```

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::luks::{DEVICE_TIMEOUT, Luks};
use super::word::{AbsolutePath, Device, FsType, MountOption, MountSource, Server};

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Root {
    /// Its device [default: the disk of the one `[[iscsi]]` with `lun` or `[[nbd]]`, or the one volume of `[[luks]]`]
    pub device: Option<Device>,
    /// Its file system [default: auto]
    #[serde(rename = "type")]
    pub fs_type: Option<FsType>,
    /// Mount options, as fstab(5) and systemd.mount(5) have them.
    pub options: Vec<MountOption>,
    /// The subvolume of a Btrfs.
    pub subvolume: Option<MountSource>,
    /// Whether it is checked before it is mounted.
    pub fsck: bool,
}

/// A file system that the initrd mounts below the root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Mount {
    /// Where, as seen in the root.
    pub path: AbsolutePath,
    /// What: a device, or what the file system takes, such as `tmpfs`.
    pub device: MountSource,
    /// Its file system [default: auto]
    #[serde(rename = "type")]
    pub fs_type: Option<FsType>,
    /// Mount options, as fstab(5) and systemd.mount(5) have them.
    #[serde(default)]
    pub options: Vec<MountOption>,
    /// The subvolume of a Btrfs.
    pub subvolume: Option<MountSource>,
    /// Whether it is checked before it is mounted.
    #[serde(default)]
    pub fsck: bool,
}

/// A file system over NFS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Nfs {
    /// The server.
    pub server: Server,
    /// The directory it exports.
    pub export: AbsolutePath,
    /// Where it is mounted, as seen in the root [default: it is the root]
    pub path: Option<AbsolutePath>,
    /// Mount options, as nfs(5) has them.
    #[serde(default)]
    pub options: Vec<MountOption>,
}

/// Tells systemd-fstab-generator to mount something else than / and /usr in the initrd.
const IN_INITRD: &str = "x-initrd.mount";

/// The device that the extension of recipe nfs makes when it is merged and the network is up.
const WAITS_FOR_NFS: &str = "x-systemd.requires=dev-ukikit-nfs.device";

impl Root {
    pub(crate) fn line(&self, device: &str, luks: &[Luks]) -> String {
        let mut options = shown(&self.options);
        options.extend(subvolume(self.subvolume.as_ref()));
        options.extend(patience(device, luks, &options));
        line(
            device,
            "/",
            self.fs_type.as_ref(),
            &options,
            self.fsck.then_some(1),
        )
    }
}

impl Mount {
    pub(crate) fn line(&self, luks: &[Luks]) -> String {
        let mut options = shown(&self.options);
        options.extend(subvolume(self.subvolume.as_ref()));
        options.extend(patience(self.device.as_str(), luks, &options));
        if !options.iter().any(|option| option == IN_INITRD) {
            options.push(IN_INITRD.to_owned());
        }
        let (device, path) = (self.device.as_str(), self.path.as_str());
        line(
            device,
            path,
            self.fs_type.as_ref(),
            &options,
            self.fsck.then_some(2),
        )
    }
}

impl Nfs {
    /// Whether it is the root.
    pub(crate) fn is_root(&self) -> bool {
        self.path.as_ref().is_none_or(|path| path.as_str() == "/")
    }

    pub(crate) fn line(&self) -> String {
        let server = self.server.as_str();
        let server = match server.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => server.to_owned(),
        };
        let mut options = shown(&self.options);
        options.push(WAITS_FOR_NFS.to_owned());
        if !self.is_root() {
            options.push(IN_INITRD.to_owned());
        }
        let path = self.path.as_ref().map_or("/", AbsolutePath::as_str);
        let source = format!("{server}:{}", self.export);
        format!(
            "{} {} nfs {} 0 0\n",
            escaped(&source),
            escaped(path),
            joined(&options)
        )
    }
}

fn shown(options: &[MountOption]) -> Vec<String> {
    options.iter().map(ToString::to_string).collect()
}

fn subvolume(name: Option<&MountSource>) -> Option<String> {
    name.map(|name| format!("subvol={name}"))
}

/// A volume that asks for its passphrase takes as long as somebody needs to type it (as systemd-cryptsetup-generator sees to).
fn patience(device: &str, luks: &[Luks], options: &[String]) -> Option<String> {
    let is_volume = |luks: &Luks| device.strip_prefix("/dev/mapper/") == Some(luks.name.as_str());
    let told = options
        .iter()
        .any(|option| option.starts_with(DEVICE_TIMEOUT));
    (!told && luks.iter().any(is_volume)).then(|| format!("{DEVICE_TIMEOUT}0"))
}

fn joined(options: &[String]) -> String {
    if options.is_empty() {
        return "defaults".to_owned();
    }
    escaped(&options.join(","))
}

fn line(
    device: &str,
    path: &str,
    fs_type: Option<&FsType>,
    options: &[String],
    pass: Option<u8>,
) -> String {
    let (device, path) = (escaped(device), escaped(path));
    let (fs_type, options) = (fs_type.map_or("auto", FsType::as_str), joined(options));
    format!(
        "{device} {path} {fs_type} {options} 0 {}\n",
        pass.unwrap_or(0)
    )
}

/// As getmntent(3) reads it: what separates fields, and what escapes, in octal.
pub(crate) fn escaped(field: &str) -> String {
    let mut escaped = String::with_capacity(field.len());
    for char in field.chars() {
        match char {
            ' ' | '\t' | '\n' | '\\' => {
                let _ = write!(escaped, "\\{:03o}", u32::from(char));
            }
            other => escaped.push(other),
        }
    }
    escaped
}
