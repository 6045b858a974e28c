//! Whom an initrd trusts for extensions, by the files of `verity.d`, and the addon that changes it.
//!
//! ```text
//! UKI's initrd      usr/lib/verity.d/vendor.crt
//! addon's initrd    usr/lib/verity.d/ukikit-FINGERPRINT.crt     trusted besides
//!                   etc/verity.d/vendor.crt -> /dev/null        no longer trusted
//! ```
//!
//! systemd reads `*.crt` in four directories; of files with one name the first counts, and one that is empty
//! or a link to `/dev/null` hides those behind it.

mod kernel;
pub mod policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use der::pem::{LineEnding, encode_string};
use serde::Serialize;
use ukikit_signing::Certificate;
use ukikit_sysext::{Entry, Kind, Tree};

pub use kernel::{Configured, KernelTrust};

/// What the addon is called, in front of `.addon.efi`.
pub const ADDON: &str = "extension-trust";

/// In the order in which systemd looks.
const DIRECTORIES: [&str; 4] = [
    "etc/verity.d",
    "run/verity.d",
    "usr/local/lib/verity.d",
    "usr/lib/verity.d",
];
const HIDING: &str = "etc/verity.d";
const TRUSTING: &str = "usr/lib/verity.d";
/// In front of the fingerprint, in the names of our files.
const PREFIX: &str = "ukikit-";
/// In bytes; a certificate is a few thousand.
const CERTIFICATE_MAX: usize = 1 << 20;

/// What the addon does.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TrustAddon {
    /// Whom the initrd trusts besides.
    pub trusted: Vec<Certificate>,
    /// The names of files in `verity.d` that no longer count.
    pub hidden: BTreeSet<String>,
}

impl TrustAddon {
    /// Reads it from the initrd of an addon.
    pub fn of_tree(tree: &Tree) -> Self {
        let mut addon = Self::default();
        for (directory, name, file) in files(tree) {
            match file {
                File::Certificate(certificate) => addon.trusted.push(*certificate),
                File::Hides if directory == HIDING => drop(addon.hidden.insert(name)),
                File::Hides => {}
            }
        }
        addon
    }

    /// Trusts a certificate besides; once is enough.
    pub fn add(&mut self, certificate: Certificate) {
        self.withdraw(&certificate);
        self.trusted.push(certificate);
    }

    /// Trusts it no longer.
    pub fn withdraw(&mut self, certificate: &Certificate) {
        let fingerprint = certificate.fingerprint();
        self.trusted
            .retain(|other| other.fingerprint() != fingerprint);
    }

    /// Hides the files by which `initrd` trusts a certificate of its own accord.
    pub fn hide(&mut self, certificate: &Certificate, initrd: &Tree) {
        for (_, name, file) in files(initrd) {
            if matches!(&file, File::Certificate(other) if other.fingerprint() == certificate.fingerprint())
            {
                self.hidden.insert(name);
            }
        }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.trusted.is_empty() && self.hidden.is_empty()
    }

    /// The files of its initrd.
    ///
    /// # Errors
    ///
    /// None that the names of fingerprints could give rise to.
    pub fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::new();
        for certificate in &self.trusted {
            let pem = encode_string("CERTIFICATE", LineEnding::LF, certificate.as_der())
                .context("cannot write a certificate as PEM")?;
            let path = format!("{TRUSTING}/{PREFIX}{}.crt", certificate.fingerprint());
            tree.insert(path, Entry::file(pem))?;
        }
        for name in &self.hidden {
            tree.insert(format!("{HIDING}/{name}"), Entry::symlink("/dev/null"))?;
        }
        Ok(tree)
    }
}

enum File {
    Certificate(Box<Certificate>),
    /// Empty, a link to `/dev/null`, or nothing that can be used.
    Hides,
}

/// All `*.crt` files: directory, name, what it is.
fn files(tree: &Tree) -> Vec<(&'static str, String, File)> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        let Some(resolved) = tree.resolve(directory) else {
            continue;
        };
        let prefix = [&resolved[..], b"/"].concat();
        for (path, entry) in tree.iter() {
            let Some(name) = path.strip_prefix(&prefix[..]) else {
                continue;
            };
            if let Ok(name) = str::from_utf8(name)
                && name.ends_with(".crt")
                && !name.contains('/')
                && !entry.is_directory()
            {
                found.push((directory, name.to_owned(), file(tree, path)));
            }
        }
    }
    found
}

fn file(tree: &Tree, path: &[u8]) -> File {
    let entry = tree.resolve(path).and_then(|path| tree.get(&path));
    let Some(Kind::File(content)) = entry.map(|entry| &entry.kind) else {
        return File::Hides;
    };
    let pem = content.read(CERTIFICATE_MAX).unwrap_or_default();
    Certificate::from_pem(&pem).map_or(File::Hides, |found| File::Certificate(Box::new(found)))
}

/// A certificate the initrd trusts, and why.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Trusted {
    /// Whom it names.
    pub subject: String,
    /// SHA-256 of its DER bytes, hexadecimal.
    pub fingerprint: String,
    /// The file in the initrd.
    pub path: String,
    /// The addon that brings it; `None` for the UKI itself.
    pub addon: Option<String>,
}

/// Whom the initrd trusts when these are unpacked one over the other: that of the UKI, then those of addons
/// with the addon's path.
pub fn trusted(uki: &Tree, addons: &[(String, Tree)]) -> Vec<Trusted> {
    let mut all: BTreeMap<(usize, String), (File, Option<String>)> = BTreeMap::new();
    let layers = addons.iter().map(|(path, tree)| (Some(path.clone()), tree));
    for (addon, tree) in std::iter::once((None, uki)).chain(layers) {
        for (directory, name, file) in files(tree) {
            let rank = DIRECTORIES
                .iter()
                .position(|other| *other == directory)
                .unwrap_or_default();
            all.insert((rank, name), (file, addon.clone()));
        }
    }
    let mut seen = BTreeSet::new();
    let mut trusted = Vec::new();
    for ((rank, name), (file, addon)) in all {
        let first = seen.insert(name.clone());
        if let (true, File::Certificate(certificate), Some(directory)) =
            (first, file, DIRECTORIES.get(rank))
        {
            trusted.push(Trusted {
                subject: certificate.subject(),
                fingerprint: certificate.fingerprint(),
                path: format!("/{directory}/{name}"),
                addon,
            });
        }
    }
    trusted
}

/// Whether systemd checks signatures itself, by the kernel's command line; the last word counts.
pub fn checked_in_user_space(command_line: &str) -> bool {
    let option = "systemd.allow_userspace_verity=";
    let words = command_line.split_whitespace();
    let value = words
        .filter_map(|word| word.strip_prefix(option))
        .next_back();
    !matches!(value, Some("0" | "no" | "n" | "false" | "f" | "off"))
}
