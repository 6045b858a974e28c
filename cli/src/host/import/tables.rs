//! fstab(5) and crypttab(5): the lines that concern the initrd.

use super::Left;
use super::text::{HostText, Table, quoted};
use crate::host::word::{AbsolutePath, Device, FsType, MountOption, MountSource, VolumeName};

/// Lines with at least one field, with their number, comments left out.
fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let rows = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()));
    let rows = rows.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    rows.map(|(at, line)| (at, line.split_ascii_whitespace().collect()))
}

/// Takes the root, /usr and what carries `x-initrd.mount`.
pub(super) fn fstab(text: &str, host: &mut HostText, left: &mut Vec<Left>) {
    for (at, fields) in rows(text) {
        let place = format!("/etc/fstab:{at}");
        let [source, path, fs_type, rest @ ..] = &*fields else {
            left.push(Left::new(place, "it is no line of fstab(5)"));
            continue;
        };
        let (source, path) = (unescaped(source), unescaped(path));
        let options: Vec<String> = rest
            .first()
            .copied()
            .unwrap_or_default()
            .split(',')
            .map(unescaped)
            .collect();
        let early = options.iter().any(|option| option == "x-initrd.mount");
        if path != "/" && path != "/usr" && !early {
            continue;
        }
        let entry = Entry {
            source,
            path,
            fs_type,
            options,
            fsck: rest.get(2).is_some_and(|pass| *pass != "0"),
        };
        if let Err(reason) = entry.take(host) {
            left.push(Left::new(place, reason));
        }
    }
}

/// A line of fstab(5).
struct Entry<'a> {
    source: String,
    path: String,
    fs_type: &'a str,
    options: Vec<String>,
    fsck: bool,
}

impl Entry<'_> {
    fn take(&self, host: &mut HostText) -> Result<(), String> {
        let mut table = Table::default();
        if self.fs_type.starts_with("nfs") {
            return self.take_nfs(host);
        }
        if self.path == "/" {
            Device::try_from(self.source.clone())?;
        } else {
            MountSource::try_from(self.source.clone())?;
            AbsolutePath::try_from(self.path.clone())?;
            table.text("path", &self.path);
        }
        table.text("device", &self.source);
        FsType::try_from(self.fs_type.to_owned())?;
        if self.fs_type != "auto" {
            table.text("type", self.fs_type);
        }
        let subvolume = self
            .options
            .iter()
            .find_map(|option| option.strip_prefix("subvol="));
        table.texts("options", &self.options()?);
        table.text_if("subvolume", subvolume);
        if self.fsck {
            table.raw("fsck", "true".to_owned());
        }
        if self.path == "/" {
            host.root = table;
        } else {
            host.mounts.push(table);
        }
        Ok(())
    }

    fn take_nfs(&self, host: &mut HostText) -> Result<(), String> {
        let (server, export) = self
            .source
            .rsplit_once(':')
            .ok_or("its source is not SERVER:DIRECTORY")?;
        AbsolutePath::try_from(export.to_owned())?;
        if host.nfs.has("server") {
            return Err("a host file has one file system over NFS".to_owned());
        }
        host.nfs.text("server", server.trim_matches(['[', ']']));
        host.nfs.text("export", export);
        if self.path != "/" {
            host.nfs.text("path", &self.path);
        }
        host.nfs.texts("options", &self.options()?);
        Ok(())
    }

    /// Those that say something and have no key of their own.
    fn options(&self) -> Result<Vec<String>, String> {
        let usual = |option: &&String| {
            let option = option.as_str();
            !matches!(option, "" | "defaults" | "x-initrd.mount" | "_netdev")
                && !option.starts_with("subvol=")
        };
        let options: Vec<String> = self.options.iter().filter(usual).cloned().collect();
        for option in &options {
            MountOption::try_from(option.clone())?;
        }
        Ok(options)
    }
}

/// What getmntent(3) makes of a field: octal escapes stand for characters.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let code = escape
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => bytes.push(code),
            None => bytes.push(b'\\'),
        }
        rest = if code.is_some() {
            escape.get(3..).unwrap_or_default()
        } else {
            escape
        };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Takes the volumes that the initrd opens: the root's, those marked so, and those the command line named already.
pub(super) fn crypttab(text: &str, host: &mut HostText, left: &mut Vec<Left>) {
    for (at, fields) in rows(text) {
        let place = format!("/etc/crypttab:{at}");
        let [name, device, rest @ ..] = &*fields else {
            left.push(Left::new(place, "it is no line of crypttab(5)"));
            continue;
        };
        let key = rest.first().copied().unwrap_or("none");
        let options: Vec<&str> = rest
            .get(1)
            .copied()
            .unwrap_or_default()
            .split(',')
            .filter(|option| !option.is_empty())
            .collect();
        let mapped = quoted(&format!("/dev/mapper/{name}"));
        let is_root = host.root.value("device") == Some(&mapped);
        let is_mounted = host
            .mounts
            .iter()
            .any(|mount| mount.value("device") == Some(&mapped));
        if !is_root && !is_mounted && !options.contains(&"x-initrd.attach") {
            continue;
        }
        match volume(name, device, key, &options) {
            Ok(table) => {
                host.luks
                    .retain(|other| other.value("name") != table.value("name"));
                host.luks.push(table);
            }
            Err(reason) => left.push(Left::new(place.clone(), reason)),
        }
        if key.starts_with('/') {
            left.push(Left::new(
                place,
                format!("the key is sealed from {key}: keep this file where the host file is used"),
            ));
        }
    }
}

fn volume(name: &str, device: &str, key: &str, options: &[&str]) -> Result<Table, String> {
    VolumeName::try_from(name.to_owned())?;
    Device::try_from(device.to_owned())?;
    let mut table = Table::default();
    table.text("name", name);
    table.text("device", device);
    if key.starts_with('/') {
        table.raw("key", format!("{{ file = {} }}", quoted(key)));
    } else if !matches!(key, "none" | "-" | "") {
        return Err(format!(
            "its key {key} is no file: give `passphrase` or `key`"
        ));
    }
    let options = options
        .iter()
        .copied()
        .filter(|option| *option != "x-initrd.attach");
    let options: Vec<&str> = options.collect();
    table.texts("options", &options);
    Ok(table)
}
