//! Which extensions systemd merges in the initrd (systemd's `sysext.c`): the first of a name counts, what does
//! not fit is skipped, and one that cannot be used keeps all of them out.

use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Serialize, Serializer};
use ukikit_esp::{File, Kind};
use ukikit_sysext::{
    Check, Description, Error, Finding, Image, ImageClass, Release, Requirements, Scope, Tree,
};

use super::{Placed, codec, version_order};
use crate::Base;

/// An extension that is in the initrd.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Extension {
    /// Where it comes from and where it is.
    #[serde(flatten)]
    pub file: Placed,
    /// What systemd calls it, `None` for a file name it passes over.
    pub name: Option<String>,
    /// What it extends.
    pub class: ImageClass,
    /// What becomes of it.
    pub outcome: Outcome,
    /// What speaks against it, whatever comes of that.
    #[serde(skip)]
    pub troubles: Vec<Trouble>,
    /// What the image says of itself.
    #[serde(skip)]
    pub description: Option<Description>,
    /// Its files.
    #[serde(skip)]
    pub tree: Tree,
}

/// What becomes of an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is merged.
    Merged,
    /// Its file name does not end in `.raw`, in lower case.
    PassedOver,
    /// One of the same name comes first, on the ESP at this path.
    Hidden(String),
    /// It does not fit, and the others are merged.
    Skipped,
    /// It cannot be used, so nothing is merged.
    Refused,
    /// It could be merged, but the one at this path cannot be used.
    DraggedDown(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Merged => "merged",
            Self::PassedOver => "ignored, its suffix is not .raw in lower case",
            Self::Hidden(by) => return write!(f, "hidden by {by}"),
            Self::Skipped => "skipped, it does not fit",
            Self::Refused => "refused, and so nothing is merged",
            Self::DraggedDown(by) => return write!(f, "not merged, as {by} is refused"),
        })
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Merged => "merged",
            Self::PassedOver => "passed-over",
            Self::Hidden(_) => "hidden",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::DraggedDown(_) => "dragged-down",
        })
    }
}

/// One thing that speaks against an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// The file is no image, or a damaged one.
    Damaged(Finding),
    /// It has no signed root hash.
    Unsigned,
    /// No certificate of the initrd has signed it.
    Untrusted(Finding),
    /// It has no release file of its name.
    NoRelease(Finding),
    /// It has an os-release file, by which systemd takes it for an operating system.
    OperatingSystem(Finding),
    /// The kernel does not unpack what it is compressed with.
    Codec(&'static str),
    /// It holds what is not merged.
    Content(Finding),
    /// It is not for initrds.
    Scope(String),
    /// It is for another system.
    Release(String),
    /// It is for another processor.
    Architecture(String),
}

impl Trouble {
    /// Whether it keeps systemd from merging any extension.
    fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Damaged(_)
                | Self::Unsigned
                | Self::Untrusted(_)
                | Self::NoRelease(_)
                | Self::OperatingSystem(_)
                | Self::Codec(_)
        )
    }

    /// Whether systemd skips the extension for it.
    fn skips(&self) -> bool {
        matches!(
            self,
            Self::Scope(_) | Self::Release(_) | Self::Architecture(_)
        )
    }
}

/// Judges the extensions of one class, each alone and then together.
pub(super) fn consider(
    files: Vec<(Placed, &File)>,
    kind: Kind,
    base: Option<&Base>,
) -> Vec<Extension> {
    let class = if kind == Kind::Confext {
        ImageClass::Confext
    } else {
        ImageClass::Sysext
    };
    let mut extensions: Vec<Extension> = files
        .into_par_iter()
        .map(|(placed, file)| examine(placed, file, class, base))
        .collect();
    settle_hidden(&mut extensions);
    settle_dragged_down(&mut extensions);
    extensions.sort_by(|a, b| match (&a.name, &b.name) {
        (Some(a), Some(b)) => version_order(a, b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    });
    extensions
}

fn examine(placed: Placed, file: &File, class: ImageClass, base: Option<&Base>) -> Extension {
    let name = image_name(placed.name(), class).map(str::to_owned);
    let content: Arc<[u8]> = file.content.as_slice().into();
    let mut extension = Extension {
        file: placed,
        name,
        class,
        outcome: Outcome::PassedOver,
        troubles: Vec::new(),
        description: None,
        tree: Tree::new(),
    };
    match Image::open(Cursor::new(content)) {
        Ok(image) => {
            look_into(&mut extension, &image, base);
            let codec = codec::unknown(&file.content, extension.description.as_ref(), base);
            extension.troubles.extend(codec.map(Trouble::Codec));
        }
        Err(error) => extension.troubles = findings(error).map(Trouble::Damaged).collect(),
    }
    if extension.name.is_some() {
        extension.outcome = if extension.troubles.iter().any(Trouble::is_fatal) {
            Outcome::Refused
        } else if extension.troubles.iter().any(Trouble::skips) {
            Outcome::Skipped
        } else {
            Outcome::Merged
        };
    }
    extension
}

/// The name of an image: without `.raw` and, before it, its class.
fn image_name(file_name: &str, class: ImageClass) -> Option<&str> {
    let stem = file_name.strip_suffix(".raw")?;
    let short = stem
        .strip_suffix(class.as_str())
        .and_then(|stem| stem.strip_suffix('.'));
    Some(short.unwrap_or(stem))
}

type Bytes = Cursor<Arc<[u8]>>;

fn look_into(extension: &mut Extension, image: &Image<Bytes>, base: Option<&Base>) {
    let mut requirements = Requirements::new();
    (requirements.scope, requirements.file_name) = (None, Some(extension.file.name().to_owned()));
    let description = image.describe(requirements.file_name.as_deref()).ok();
    let trusted = base
        .map(|base| base.certificates.clone())
        .unwrap_or_default();
    let signed = description
        .as_ref()
        .is_some_and(|description| description.root_hash.is_some());
    let release = description
        .as_ref()
        .and_then(|description| description.release.clone());
    if let Err(error) = image.verify(&trusted, &requirements) {
        let judged = findings(error)
            .filter_map(|finding| judge(finding, signed, release.is_some(), base.is_some()));
        extension.troubles = judged.collect();
    }
    if !signed && !extension.troubles.contains(&Trouble::Unsigned) {
        extension.troubles.push(Trouble::Unsigned);
    }
    extension.troubles.dedup();
    if let Some(release) = &release {
        let own = misfits(release, extension.class, base);
        extension.troubles.extend(own);
    }
    extension.tree = image.tree().unwrap_or_default();
    extension.description = description;
}

fn findings(error: Error) -> impl Iterator<Item = Finding> {
    match error {
        Error::Refused { findings } => findings,
        error => vec![Finding::new(
            Check::PartitionTable,
            "image",
            error.to_string(),
        )],
    }
    .into_iter()
}

/// What a finding means for the merge. Without an initrd nobody is known to be trusted.
fn judge(finding: Finding, signed: bool, has_release: bool, knows_base: bool) -> Option<Trouble> {
    match finding.check {
        Check::Signature if !knows_base => None,
        Check::Signature => Some(Trouble::Untrusted(finding)),
        // Systemd does not insist on these when the signature is inside.
        Check::PartitionUuids | Check::Fingerprint => None,
        Check::Content if !has_release => Some(Trouble::NoRelease(finding)),
        Check::Content if finding.place.ends_with("lib/os-release") => {
            Some(Trouble::OperatingSystem(finding))
        }
        Check::Content => Some(Trouble::Content(finding)),
        Check::Partitions | Check::SignaturePartition if !signed => Some(Trouble::Unsigned),
        _ => Some(Trouble::Damaged(finding)),
    }
}

fn misfits(release: &Release, class: ImageClass, base: Option<&Base>) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let scopes = release.scopes(class);
    if !scopes.contains(&Scope::Initrd.as_str()) {
        let field = class.scope_field();
        troubles.push(Trouble::Scope(match release.value(field) {
            Some(own) => format!("{field}={own}"),
            None => format!("no {field}=, which means {}", scopes.join(" ")),
        }));
    }
    let Some(base) = base else { return troubles };
    troubles.extend(release.mismatch(&base.release, class).map(Trouble::Release));
    let foreign = base
        .architecture
        .and_then(|architecture| release.foreign_to(architecture));
    troubles.extend(foreign.map(Trouble::Architecture));
    troubles
}

/// The first of a name counts: those of the UKI come in front of those of all.
fn settle_hidden(extensions: &mut [Extension]) {
    let mut seen: Vec<(String, String)> = Vec::new();
    for extension in extensions {
        let Some(name) = &extension.name else {
            continue;
        };
        match seen.iter().find(|(other, _)| other == name) {
            Some((_, path)) => extension.outcome = Outcome::Hidden(path.clone()),
            None => seen.push((name.clone(), extension.file.path.clone())),
        }
    }
}

fn settle_dragged_down(extensions: &mut [Extension]) {
    let bad = extensions
        .iter()
        .find(|extension| extension.outcome == Outcome::Refused)
        .map(|extension| extension.file.path.clone());
    let Some(bad) = bad else { return };
    for extension in extensions {
        if extension.outcome == Outcome::Merged {
            extension.outcome = Outcome::DraggedDown(bad.clone());
        }
    }
}
