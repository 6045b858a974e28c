//! `[[luks]]`: a unit for each encrypted volume. No credential takes lines of crypttab, so the unit that
//! systemd-cryptsetup-generator would make of one is a credential itself.
//!
//! ```text
//! systemd.extra-unit.ukikit-luks-NAME.service             runs systemd-cryptsetup
//! systemd.unit-dropin.initrd-root-device.target~luks-NAME  requires it
//! luks.NAME                                                the key
//! ```

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Deserialize;

use super::source::{Shape, Source};
use super::word::{Device, MountOption, VolumeName};

/// An encrypted volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Luks {
    /// Its name when it is open, below /dev/mapper/.
    pub name: VolumeName,
    /// The device it is on.
    pub device: Device,
    /// The passphrase; a newline at its end is left out.
    pub passphrase: Option<Source>,
    /// The key as bytes, instead of a passphrase.
    pub key: Option<Source>,
    /// Options of crypttab(5), such as `tpm2-device=auto`, `discard` or, for a device that may take longer than 90 seconds to
    /// appear, `x-systemd.device-timeout=5min`.
    #[serde(default)]
    pub options: Vec<MountOption>,
}

impl Luks {
    pub(crate) fn unit_name(&self) -> String {
        format!("ukikit-luks-{}.service", self.name)
    }

    /// The credential with the key, and what gives it.
    pub(crate) fn key(&self) -> Option<(String, Source, Shape)> {
        let passphrase = self.passphrase.clone().map(|source| (source, Shape::Line));
        let key = passphrase.or_else(|| Some((self.key.clone()?, Shape::Bytes)));
        key.map(|(source, shape)| (format!("luks.{}", self.name), source, shape))
    }

    /// What systemd-cryptsetup-generator of 262 writes, with four differences: it waits for the merge, which may bring the
    /// program; then for its device, with the patience that a drop-in of the device's unit would have, whose name no FAT takes;
    /// the key is a credential; and it stays when the initrd ends, whatever the host's crypttab says.
    pub(crate) fn unit(&self) -> String {
        let device = device_path(&self.device);
        let patience = match self.patience() {
            Some(span) => quoted(&format!("--timeout={span}")) + " ",
            None => String::new(),
        };
        let options: Vec<&str> = self.options.iter().map(MountOption::as_str).collect();
        let options = if options.is_empty() {
            "luks".to_owned()
        } else {
            options.join(",")
        };
        let (key, import) = match self.key() {
            Some((name, ..)) => (format!("%d/{name}"), format!("ImportCredential={name}\n")),
            None => ("none".to_owned(), String::new()),
        };
        let (name, device, options) = (self.name.as_str(), quoted(&device), quoted(&options));
        format!(
            "[Unit]\n\
             Description=Unlock the volume {name}\n\
             DefaultDependencies=no\n\
             IgnoreOnIsolate=yes\n\
             Wants=cryptsetup-pre.target blockdev@dev-mapper-{mapper}.target\n\
             After=cryptsetup-pre.target systemd-udevd-kernel.socket systemd-udevd.service systemd-tpm2-setup-early.service\n\
             After=systemd-sysext-initrd.service systemd-sysext.service\n\
             Before=blockdev@dev-mapper-{mapper}.target cryptsetup.target initrd-root-device.target\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             TimeoutSec=infinity\n\
             KeyringMode=shared\n\
             OOMScoreAdjust=500\n\
             ImportCredential=cryptsetup.*\n\
             {import}\
             ExecStartPre=udevadm wait {patience}{device}\n\
             ExecStart=systemd-cryptsetup attach {name} {device} {key} {options}\n",
            mapper = escaped_path(name),
        )
    }

    /// How long the device is waited for, as systemd.time(7) spells it; `None` for ever.
    fn patience(&self) -> Option<&str> {
        let told = self.options.iter();
        let mut told = told.filter_map(|option| option.as_str().strip_prefix(DEVICE_TIMEOUT));
        // The last one counts, as for systemd-cryptsetup-generator.
        let span = told.next_back().unwrap_or("90s");
        (!["0", "infinity"].contains(&span)).then_some(span)
    }

    /// A volume that does not open ends in the emergency shell, not in a wait for its device.
    pub(crate) fn drop_in(&self) -> (String, String) {
        let (name, unit) = (&self.name, self.unit_name());
        (
            format!("systemd.unit-dropin.initrd-root-device.target~luks-{name}"),
            format!("[Unit]\nRequires={unit}\nAfter={unit}\n"),
        )
    }
}

/// The option of crypttab(5) and fstab(5) that says how long a device is waited for.
pub(crate) const DEVICE_TIMEOUT: &str = "x-systemd.device-timeout=";

/// The link that udev makes for a tag (systemd: `fstab_node_to_udev_node`).
fn device_path(device: &Device) -> String {
    let text = device.as_str();
    for (tag, directory) in [
        ("UUID=", "by-uuid"),
        ("LABEL=", "by-label"),
        ("PARTUUID=", "by-partuuid"),
        ("PARTLABEL=", "by-partlabel"),
    ] {
        if let Some(value) = text.strip_prefix(tag) {
            return format!("/dev/disk/{directory}/{}", encoded(value));
        }
    }
    text.to_owned()
}

/// As udev spells a label in a file name (systemd: `encode_devnode_name`).
fn encoded(label: &str) -> String {
    let plain =
        |char: char| char.is_ascii_alphanumeric() || "#+-.:=@_".contains(char) || !char.is_ascii();
    hexadecimal_unless(label, plain)
}

/// A path as the name of a unit (systemd.unit(5), "String escaping").
fn escaped_path(path: &str) -> String {
    let inside = path.trim_matches('/');
    let mut escaped = String::new();
    for (at, char) in inside.char_indices() {
        match char {
            '/' => escaped.push('-'),
            '.' if at == 0 => escaped.push_str("\\x2e"),
            char if char.is_ascii_alphanumeric() || ":_.".contains(char) => escaped.push(char),
            other => escaped.push_str(&hexadecimal_unless(&other.to_string(), |_| false)),
        }
    }
    escaped
}

fn hexadecimal_unless(text: &str, plain: impl Fn(char) -> bool) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        if plain(char) {
            escaped.push(char);
            continue;
        }
        for byte in char.encode_utf8(&mut [0; 4]).bytes() {
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

/// A word of `ExecStart=` in which nothing has a meaning of its own (systemd.service(5), "Command lines").
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '%' | '$' => quoted.extend([char, char]),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
