//! The host file that an existing system implies, and what of the system it cannot say.
//!
//! ```text
//! kernel command line ─┐
//! fstab, crypttab ─────┤
//! /etc/iscsi, dracut ──┼─ System ─ import ─ the text of HOST.toml
//! networkd, NetworkManager ┘              └ what is left, each with its reason
//! ```
//!
//! Only what the initrd needs is taken: the host goes on reading its own fstab and network files. Secrets are not copied; the
//! host file names a file for each, and what is left says what to put there.

mod command_line;
mod dracut;
mod iscsi;
mod keyfile;
mod tables;
mod text;

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::HostFile;

pub use text::HostText;

/// What is read of an existing system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct System {
    /// The kernel's command line.
    pub command_line: String,
    /// /etc/hostname
    pub hostname: String,
    /// /etc/fstab
    pub fstab: String,
    /// /etc/crypttab
    pub crypttab: String,
    /// /etc/iscsi/initiatorname.iscsi
    pub initiator: String,
    /// /etc/dracut.conf and /etc/dracut.conf.d
    pub dracut: Vec<TextFile>,
    /// Node records of open-iscsi.
    pub iscsi_nodes: Vec<TextFile>,
    /// Files of systemd-networkd.
    pub networkd: Vec<TextFile>,
    /// Connections of NetworkManager.
    pub connections: Vec<TextFile>,
}

/// A file and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Its path, by which the host file names it.
    pub path: String,
    /// What stands in it.
    pub text: String,
}

/// Something the host file does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Left {
    /// Where it stands, such as `/etc/fstab:3`.
    pub place: String,
    /// Why it is left out, or what is to be done, as a sentence.
    pub reason: String,
}

impl Left {
    pub(crate) fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl System {
    /// Reads the system below `root`, an absolute path. What is not there, or is no text, is empty.
    pub fn read(root: &Path, command_line: String) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let nodes = ["etc/iscsi/nodes", "var/lib/iscsi/nodes"];
        let networkd = ["etc/systemd/network", "run/systemd/network"];
        let files = |directories: &[&str], depth| -> Vec<TextFile> {
            let found = directories
                .iter()
                .flat_map(|directory| files(root, directory, depth));
            found.collect()
        };
        Self {
            command_line,
            hostname: text("etc/hostname"),
            fstab: text("etc/fstab"),
            crypttab: text("etc/crypttab"),
            initiator: text("etc/iscsi/initiatorname.iscsi"),
            dracut: dracut(root),
            // nodes/TARGET/ADDRESS,PORT,GROUP/INTERFACE, or without the last.
            iscsi_nodes: files(&nodes, 3),
            networkd: files(&networkd, 1),
            connections: files(&["etc/NetworkManager/system-connections"], 1),
        }
    }
}

/// The configuration of dracut, in the order in which it is read.
fn dracut(root: &Path) -> Vec<TextFile> {
    let path = root.join("etc/dracut.conf");
    let main = fs::read_to_string(&path).map(|text| TextFile {
        path: path.display().to_string(),
        text,
    });
    let more = files(root, "etc/dracut.conf.d", 1).into_iter();
    let more = more.filter(|file| file.path.ends_with(".conf"));
    main.into_iter().chain(more).collect()
}

/// The text files below a directory, sorted.
fn files(root: &Path, directory: &str, depth: usize) -> Vec<TextFile> {
    let Ok(entries) = fs::read_dir(root.join(directory)) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let path = format!("{directory}/{name}");
        match fs::read_to_string(root.join(&path)) {
            Ok(text) => found.push(TextFile {
                path: root.join(path).display().to_string(),
                text,
            }),
            Err(_) if depth > 1 => found.extend(files(root, &path, depth - 1)),
            Err(_) => {}
        }
    }
    found
}

/// The host file of a system, and what it does not say.
pub fn import(system: &System) -> (HostText, Vec<Left>) {
    let mut host = HostText::default();
    let mut left = Vec::new();
    host.hostname = system
        .hostname
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    tables::fstab(&system.fstab, &mut host, &mut left);
    let command_line = dracut::read(&system.dracut, &system.command_line, &mut left);
    command_line::read(&command_line, &mut host, &mut left);
    tables::crypttab(&system.crypttab, &mut host, &mut left);
    iscsi::read(&system.initiator, &system.iscsi_nodes, &mut host, &mut left);
    if !host.needs_network() {
        let files = system.networkd.iter().chain(&system.connections);
        let reason =
            "the initrd mounts nothing over the network, so this stays the host's own business";
        left.extend(files.map(|file| Left::new(&file.path, reason)));
    } else if host.networks.is_empty() {
        keyfile::networkd(&system.networkd, &mut host, &mut left);
        keyfile::connections(&system.connections, &mut host, &mut left);
    }
    if let Err(error) = HostFile::parse(&host.to_string(), Path::new("HOST.toml")) {
        left.push(Left::new(
            "the host file",
            format!("it is not whole: {error:#}"),
        ));
    }
    (host, left)
}

#[cfg(test)]
mod tests;
