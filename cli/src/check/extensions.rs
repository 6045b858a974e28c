//! Rules about images: whether each is merged, and what the layers do to one another and to the initrd.

use std::collections::BTreeSet;

use ukikit_sysext::{ImageClass, Kind, Tree};

use super::{Found, Subject};
use crate::model::{Conflict, Extension, Outcome, Trouble, conflicts, same_entry, text_of};

/// One finding for each trouble a rule is about, at images of which systemd takes notice.
fn troubled(
    subject: &Subject<'_>,
    say: impl Fn(&Trouble) -> Option<(String, &'static str)>,
) -> Vec<Found> {
    let noticed =
        subject.model.extensions.iter().filter(|extension| {
            !matches!(extension.outcome, Outcome::PassedOver | Outcome::Hidden(_))
        });
    noticed
        .filter_map(|extension| {
            let (reason, remedy) = extension.troubles.iter().find_map(&say)?;
            Some(Found::new(&extension.file.path, reason, remedy))
        })
        .collect()
}

pub(super) fn damaged(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::Damaged(finding) => Some((
            format!("systemd cannot use the image, and merges none: {finding}"),
            "place the image anew",
        )),
        _ => None,
    })
}

pub(super) fn unsigned(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::Unsigned => Some((
            "it has no signed root hash, and systemd then merges no extension at all".into(),
            "sign it: ukikit ext build --private-key= --certificate=",
        )),
        _ => None,
    })
}

pub(super) fn untrusted(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::Untrusted(finding) => Some((
            format!(
                "the initrd does not trust its signature, and systemd then merges no extension at all: {}",
                finding.what
            ),
            "sign it with a key whose certificate the initrd has, or add the certificate by a signed addon",
        )),
        _ => None,
    })
}

pub(super) fn release_file(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::NoRelease(finding) => Some((
            format!("systemd merges no extension at all: {finding}"),
            "give the file the name of the extension, or build it under this name",
        )),
        _ => None,
    })
}

pub(super) fn content(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::Content(finding) => Some((finding.to_string(), "build it without that")),
        Trouble::OperatingSystem(finding) => Some((
            format!("systemd merges no extension at all: {finding}"),
            "build it without that",
        )),
        _ => None,
    })
}

pub(super) fn scope(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::Scope(what) => Some((
            format!("systemd skips it in the initrd without a word: it has {what}"),
            "build it with SYSEXT_SCOPE=initrd, or CONFEXT_SCOPE=initrd",
        )),
        _ => None,
    })
}

pub(super) fn release(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::Release(what) => Some((
            format!("systemd skips it without a word: {what}"),
            "build it for this UKI: ukikit ext build --uki=",
        )),
        _ => None,
    })
}

pub(super) fn architecture(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::Architecture(what) => Some((
            format!("systemd skips it without a word: {what}"),
            "build it for this UKI: ukikit ext build --uki=",
        )),
        _ => None,
    })
}

pub(super) fn hidden(subject: &Subject<'_>) -> Vec<Found> {
    let hidden = subject.model.extensions.iter().filter_map(|extension| {
        let Outcome::Hidden(by) = &extension.outcome else {
            return None;
        };
        let reason = format!("{by} has the same name and comes first");
        Some(Found::new(
            &extension.file.path,
            reason,
            "remove one of them",
        ))
    });
    hidden.collect()
}

pub(super) fn all_or_nothing(subject: &Subject<'_>) -> Vec<Found> {
    let victims = subject.model.extensions.iter().filter_map(|extension| {
        let Outcome::DraggedDown(by) = &extension.outcome else {
            return None;
        };
        let reason = format!("it is good, and is not merged all the same: {by} cannot be used");
        Some(Found::new(
            &extension.file.path,
            reason,
            "remove or replace that one",
        ))
    });
    victims.collect()
}

/// Those that would be merged if all were good.
pub(super) fn sound<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = &'s Extension> {
    subject
        .model
        .extensions
        .iter()
        .filter(|extension| matches!(extension.outcome, Outcome::Merged | Outcome::DraggedDown(_)))
}

pub(super) fn codec(subject: &Subject<'_>) -> Vec<Found> {
    troubled(subject, |trouble| match trouble {
        Trouble::Codec(name) => Some((
            format!(
                "it is compressed with {name}, which the UKI's kernel does not unpack, and systemd then merges no extension at all"
            ),
            "build it with --compress=lz4",
        )),
        _ => None,
    })
}

fn is_module_index(path: &str) -> bool {
    path.contains("lib/modules/")
        && path
            .rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with("modules."))
}

pub(super) fn conflict(subject: &Subject<'_>) -> Vec<Found> {
    let all = [ImageClass::Sysext, ImageClass::Confext].into_iter();
    let all = all.flat_map(|class| conflicts(sound(subject).filter(|e| e.class == class)));
    let mut found: Vec<Found> = Vec::new();
    for Conflict { path, below, above } in all {
        // One for each pair of files: where the lists of modules differ, most of them do.
        if found
            .iter()
            .any(|known| known.file == below && known.reason.contains(&above))
        {
            continue;
        }
        let reason = format!("its {path} is hidden by that of {above}, which is another");
        let remedy = if is_module_index(&path) {
            "build both with the complete module index of the kernel"
        } else {
            "build both from the same packages, or leave the file out of one"
        };
        found.push(Found::new(below, reason, remedy));
    }
    found
}

/// The modules in a `modules.dep`.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names.map(|(module, _)| module)
}

/// A list that leaves out what the initrd's own has makes modules of the initrd unknown.
pub(super) fn module_index(subject: &Subject<'_>) -> Vec<Found> {
    let trimmed = sound(subject).filter_map(|extension| {
        let (path, _) = extension
            .tree
            .iter()
            .find(|(path, _)| path.ends_with(b"/modules.dep"))?;
        let path = String::from_utf8_lossy(path).into_owned();
        let (own, base) = (
            text_of(&extension.tree, &path)?,
            text_of(subject.initrd()?, &path)?,
        );
        let own: BTreeSet<&str> = listed(&own).collect();
        let lost = listed(&base).find(|module| !own.contains(module))?;
        let reason = format!("its {path} leaves out {lost} of the initrd, which then is not found");
        let remedy = "build it with the complete module index of the kernel, or with none";
        Some(Found::new(&extension.file.path, reason, remedy))
    });
    trimmed.collect()
}

pub(super) fn base_replaced(subject: &Subject<'_>) -> Vec<Found> {
    let replacing = sound(subject).filter_map(|extension| {
        let (path, _) = extension.tree.iter().find(|(path, entry)| {
            let path = String::from_utf8_lossy(path);
            let other = subject
                .initrd()
                .and_then(|initrd| initrd.get(path.as_bytes()));
            let both_leaves = |other: &&ukikit_sysext::Entry| {
                !other.is_directory() && !entry.is_directory() && !is_module_index(&path)
            };
            other
                .filter(both_leaves)
                .is_some_and(|other| !same_entry(entry, other))
        })?;
        let path = String::from_utf8_lossy(path);
        let reason = format!("its {path} takes the place of another one of the initrd");
        let remedy = "build it from the packages the initrd was built from, or ship a drop-in";
        Some(Found::new(&extension.file.path, reason, remedy))
    });
    replacing.collect()
}

pub(super) fn directory_masked(subject: &Subject<'_>) -> Vec<Found> {
    let masking = sound(subject).filter_map(|extension| {
        let (path, _) = extension.tree.iter().find(|(path, entry)| {
            let other = subject.initrd().and_then(|initrd| initrd.get(path));
            let is_directory = other.is_some_and(ukikit_sysext::Entry::is_directory);
            is_directory && !entry.is_directory()
        })?;
        let path = String::from_utf8_lossy(path);
        let reason =
            format!("its {path} is no directory and hides the one of the initrd with all in it");
        Some(Found::new(
            &extension.file.path,
            reason,
            "build it with a directory there",
        ))
    });
    masking.collect()
}

/// Where the loader of programs looks.
fn is_library_directory(directory: &str) -> bool {
    matches!(directory, "usr/lib" | "usr/lib64" | "lib" | "lib64")
        || directory.starts_with("usr/lib/") && directory.ends_with("-linux-gnu")
}

/// The names of what is in the loader's directories, in the initrd and in sound extensions.
fn libraries<'s>(subject: &'s Subject<'_>) -> BTreeSet<&'s [u8]> {
    let trees = sound(subject).map(|extension| &extension.tree);
    let paths = trees.chain(subject.initrd()).flat_map(Tree::iter);
    let names = paths.filter_map(|(path, _)| {
        let end = path.iter().rposition(|&byte| byte == b'/')?;
        let (directory, name) = path.split_at_checked(end)?;
        is_library_directory(str::from_utf8(directory).ok()?).then(|| name.get(1..))?
    });
    names.collect()
}

/// Whether the initrd or a sound extension has a file at this path.
fn has_file(subject: &Subject<'_>, path: &str) -> bool {
    let trees = sound(subject).map(|extension| &extension.tree);
    trees
        .chain(subject.initrd())
        .any(|tree| tree.get(path).is_some())
}

pub(super) fn library_missing(subject: &Subject<'_>) -> Vec<Found> {
    if subject.initrd().is_none() {
        return Vec::new();
    }
    let libraries = libraries(subject);
    let missing = sound(subject).filter_map(|extension| {
        let (path, name) = extension.tree.iter().find_map(|(path, entry)| {
            let Kind::File(content) = &entry.kind else {
                return None;
            };
            let file = content.read(64 << 20).ok()?;
            let needed = super::elf::needed(&file);
            let has = |name: &String| {
                libraries.contains(name.as_bytes())
                    || needed
                        .directories
                        .iter()
                        .any(|own| has_file(subject, &format!("{own}/{name}")))
            };
            let name = needed.libraries.iter().find(|name| !has(name))?;
            Some((String::from_utf8_lossy(path).into_owned(), name.clone()))
        })?;
        let reason =
            format!("its {path} needs {name}, which neither the initrd nor an extension has");
        let remedy = "build it with the library: ukikit ext build --dracut= takes what is missing";
        Some(Found::new(&extension.file.path, reason, remedy))
    });
    missing.collect()
}

pub(super) fn confext_read_only(subject: &Subject<'_>) -> Vec<Found> {
    sound(subject)
        .filter(|extension| extension.class == ImageClass::Confext)
        .map(|extension| {
            let reason = "once it is merged /etc of the initrd is read-only, for dracut's hooks and tmpfiles too";
            Found::new(&extension.file.path, reason, "use credentials or an extension for what the initrd needs")
        })
        .collect()
}
