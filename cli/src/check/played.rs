//! A boot as it will go, as one value: what is handed over, what is imported and merged, and the tree that comes of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use ukikit_esp::{AddonVerdict, Archive, ArchiveKind, Bank, Hash};
use ukikit_sysext::ImageClass;

use super::Subject;
use crate::model::Model;

/// One boot.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Played {
    /// What it is called: the UKI, or the file of the boot entry.
    pub boot: String,
    /// The UKI, by its path on the ESP.
    pub uki: String,
    /// Why the UKI would not start, or could not be read; then there is nothing else.
    pub fault: Option<String>,
    /// The profile that is booted.
    pub profile: u32,
    /// The kernel's command line; `None` when the UKI is not there to tell its own.
    pub command_line: Option<String>,
    /// The archives of companions, in the order in which the kernel unpacks them.
    pub archives: Vec<Packed>,
    /// The addons, in the order in which the stub looks at them.
    pub addons: Vec<Judged>,
    /// What becomes of credentials and extensions.
    #[serde(flatten)]
    pub model: Model,
    /// The files that merged extensions bring, by their path: the file on the ESP whose content counts.
    pub files: BTreeMap<String, String>,
}

/// One archive.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Packed {
    /// Which one.
    pub kind: ArchiveKind,
    /// Where it is unpacked.
    pub directory: &'static str,
    /// The PCR it is measured into.
    pub pcr: u32,
    /// Its files in their order, by their path on the ESP.
    pub files: Vec<String>,
    /// In bytes.
    pub size: usize,
    /// The hash of its bytes.
    pub sha256: Hash,
}

/// One addon and what the stub makes of it.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Judged {
    /// Its path on the ESP.
    pub path: String,
    /// Whether the stub uses it.
    pub verdict: AddonVerdict,
}

impl From<&Archive> for Packed {
    fn from(archive: &Archive) -> Self {
        Self {
            kind: archive.kind,
            directory: archive.kind.directory(),
            pcr: archive.kind.pcr(),
            files: archive.files.clone(),
            size: archive.as_bytes().len(),
            sha256: Bank::Sha256.hash(&[archive.as_bytes()]),
        }
    }
}

impl Played {
    pub(super) fn new(subject: Subject<'_>) -> Self {
        let uki = subject.uki().to_owned();
        let (boot, fault) = match subject.boot {
            Ok(boot) => (Some(boot), subject.fault),
            Err(error) => (None, Some(error.to_string())),
        };
        let boot = boot.as_ref();
        let judged = |addon: &ukikit_esp::Addon| Judged {
            path: addon.path.clone(),
            verdict: addon.verdict,
        };
        Self {
            boot: subject.label,
            uki,
            fault,
            profile: boot.map_or(0, |boot| boot.profile),
            command_line: boot.and_then(|boot| boot.command_line.clone()),
            archives: boot.map_or(Vec::new(), |boot| {
                boot.archives.iter().map(Packed::from).collect()
            }),
            addons: boot.map_or(Vec::new(), |boot| boot.addons.iter().map(judged).collect()),
            files: files(&subject.model),
            model: subject.model,
        }
    }
}

/// What the layers hold, the topmost last.
fn files(model: &Model) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for extension in model.merged() {
        let merged: &[&[u8]] = match extension.class {
            ImageClass::Confext => &[b"etc/"],
            _ => &[b"usr/", b"opt/"],
        };
        let leaves = extension.tree.iter().filter(|(path, entry)| {
            !entry.is_directory() && merged.iter().any(|prefix| path.starts_with(prefix))
        });
        for (path, _) in leaves {
            let path = String::from_utf8_lossy(path).into_owned();
            files.insert(path, extension.file.path.clone());
        }
    }
    files
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.boot)?;
        if let Some(fault) = &self.fault {
            return writeln!(f, "  {fault}");
        }
        if let Some(line) = &self.command_line {
            writeln!(f, "  command line  {line}")?;
        }
        for archive in &self.archives {
            let (size, pcr) = (archive.size, archive.pcr);
            writeln!(
                f,
                "  archive       /{}, {size} bytes, PCR {pcr}",
                archive.directory
            )?;
        }
        for addon in &self.addons {
            writeln!(f, "  addon         {}: {}", addon.path, addon.verdict)?;
        }
        for credential in &self.model.credentials {
            writeln!(
                f,
                "  credential    {}: {}",
                credential.file.path, credential.import
            )?;
        }
        for extension in &self.model.extensions {
            writeln!(
                f,
                "  extension     {}: {}",
                extension.file.path, extension.outcome
            )?;
        }
        Ok(())
    }
}
