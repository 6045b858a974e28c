//! A boot as the initrd will see it: which credentials PID 1 imports, which extensions systemd-sysext
//! merges, in which order, and what the merged tree then holds.
//!
//! ```text
//! PlannedBoot ─ Boot (archives) ─┬─ credentials: PID 1's import
//!                                └─ extensions: considered → examined → all merged, or none
//! ```

mod codec;
mod credential;
mod extension;
mod merge;

use serde::Serialize;
use ukikit_esp::{ArchiveKind, Boot, BootFiles, File, Kind};

pub use credential::{Delivered, Encoded, Import};
pub use extension::{Extension, Outcome, Trouble};
pub use merge::{Conflict, conflicts, version_order};
pub(crate) use merge::{same as same_entry, text as text_of};

use crate::Base;

/// What becomes of the companions in the initrd.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Model {
    /// Every credential the stub or the boot loader hands over, in the order of PID 1's import.
    pub credentials: Vec<Delivered>,
    /// Every extension and confext they hand over, in the order in which systemd considers them.
    pub extensions: Vec<Extension>,
}

/// A file that is in the initrd: where it comes from and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Placed {
    /// Its path on the ESP.
    pub path: String,
    /// Its path in the initrd, without a leading slash.
    pub place: String,
}

impl Placed {
    /// The file name.
    pub fn name(&self) -> &str {
        self.place.rsplit('/').next().unwrap_or_default()
    }
}

impl Model {
    /// Looks at the companions that a boot hands over, against the initrd they meet, if it is known.
    pub fn new(boot: &Boot<'_>, files: &BootFiles, base: Option<&Base>) -> Self {
        let of = |kind| delivered(boot, files, kind);
        Self {
            credentials: credential::import(of(Kind::Credential)),
            extensions: [Kind::Extension, Kind::Confext]
                .into_iter()
                .flat_map(|kind| extension::consider(of(kind), kind, base))
                .collect(),
        }
    }

    /// The extensions of which files are merged, in the order of their layers: the last is on top.
    pub fn merged(&self) -> impl Iterator<Item = &Extension> {
        self.extensions
            .iter()
            .filter(|extension| matches!(extension.outcome, Outcome::Merged))
    }
}

/// The files of one kind that are unpacked, in the order of their directories and names. Where two archives have
/// the same path, the later one's file stays.
fn delivered<'f>(boot: &Boot<'_>, files: &'f BootFiles, kind: Kind) -> Vec<(Placed, &'f File)> {
    let mut found: Vec<(bool, Placed, &File)> = Vec::new();
    for archive in boot
        .archives
        .iter()
        .filter(|archive| archive.kind.kind() == kind)
    {
        for path in &archive.files {
            let Some(file) = files.iter().find(|file| file.path == *path) else {
                continue;
            };
            let placed = Placed {
                path: path.clone(),
                place: format!("{}/{}", archive.kind.directory(), file.name()),
            };
            found.retain(|(_, other, _)| other.place != placed.place);
            found.push((is_global(archive.kind), placed, file));
        }
    }
    found.sort_by(|a, b| (a.0, &a.1.place).cmp(&(b.0, &b.1.place)));
    found
        .into_iter()
        .map(|(_, placed, file)| (placed, file))
        .collect()
}

fn is_global(kind: ArchiveKind) -> bool {
    matches!(
        kind,
        ArchiveKind::GlobalCredentials
            | ArchiveKind::GlobalExtensions
            | ArchiveKind::GlobalConfexts
    )
}
