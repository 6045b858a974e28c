//! Rules about the units an extension brings: what starts them, and what the unmerge at the end of the initrd does.

use ukikit_sysext::{ImageClass, Kind, Release};

use super::extensions::sound;
use super::{Found, Subject};
use crate::model::{Extension, text_of};

const UNITS: &str = "usr/lib/systemd/system/";

fn release(extension: &Extension) -> Option<&Release> {
    extension.description.as_ref()?.release.as_ref()
}

fn reloads(extension: &Extension) -> bool {
    let value = release(extension).and_then(|release| release.value("EXTENSION_RELOAD_MANAGER"));
    matches!(value, Some("1" | "yes" | "y" | "true" | "t" | "on"))
}

fn restart_units(extension: &Extension) -> impl Iterator<Item = &str> {
    let value = release(extension).and_then(|release| release.value("EXTENSION_RESTART_UNITS"));
    value.unwrap_or_default().split_whitespace()
}

/// The links `TARGET.KIND/UNIT` of an extension.
fn links<'e>(extension: &'e Extension, kind: &'e str) -> impl Iterator<Item = (&'e str, &'e str)> {
    extension.tree.iter().filter_map(move |(path, entry)| {
        let path = str::from_utf8(path).ok()?.strip_prefix(UNITS)?;
        let (directory, unit) = path.split_once('/')?;
        let target = directory.strip_suffix(kind)?.strip_suffix('.')?;
        (!entry.is_directory()).then_some((target, unit))
    })
}

fn has_any<'e>(extension: &'e Extension, kind: &'e str) -> bool {
    links(extension, kind).next().is_some()
}

fn sysexts<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = &'s Extension> {
    sound(subject).filter(|extension| extension.class == ImageClass::Sysext)
}

/// The only target of the initrd that is started by a transaction after the merge.
const STARTED_LATER: &str = "initrd-switch-root.target";

pub(super) fn wants_too_late(subject: &Subject<'_>) -> Vec<Found> {
    let late = sysexts(subject).filter_map(|extension| {
        let mut all = links(extension, "wants").chain(links(extension, "requires"));
        let (target, unit) = all.find(|(target, unit)| {
            let upheld = links(extension, "upholds").any(|(_, other)| other == *unit);
            target.ends_with(".target") && *target != STARTED_LATER && !upheld && is_own_boot(subject, target)
        })?;
        let reason = format!("{target} does not start its {unit}: what it wants was settled before the merge");
        let remedy = "link a target that wants it into sysinit.target.upholds/, and set EXTENSION_RELOAD_MANAGER=1";
        Some(Found::new(&extension.file.path, reason, remedy))
    });
    late.collect()
}

/// Whether the target is one of the initrd's and not the extension's own.
fn is_own_boot(subject: &Subject<'_>, target: &str) -> bool {
    let path = format!("{UNITS}{target}");
    subject
        .initrd()
        .is_none_or(|initrd| initrd.get(&path).is_some())
}

/// Whether the manager is reloaded for its sake: it asks for that, or lists units (the second list is new in systemd 262).
fn reloading(extension: &Extension) -> bool {
    let lists = [
        "EXTENSION_RESTART_UNITS",
        "EXTENSION_RELOAD_OR_RESTART_UNITS",
    ];
    let listed = |field: &&str| {
        let value = release(extension).and_then(|release| release.value(field));
        value.is_some_and(|value| !value.trim().is_empty())
    };
    reloads(extension) || lists.iter().any(listed)
}

/// One reload serves all that are merged together.
pub(super) fn reload_missing(subject: &Subject<'_>) -> Vec<Found> {
    if sysexts(subject).any(reloading) {
        return Vec::new();
    }
    sysexts(subject)
        .filter(|extension| has_any(extension, "upholds"))
        .map(|extension| {
            let reason = "its units are upheld, and without a reload the manager never sees them";
            Found::new(
                &extension.file.path,
                reason,
                "build it with --release=EXTENSION_RELOAD_MANAGER=1",
            )
        })
        .collect()
}

/// A drop-in for the merging service whose stop command does not reload.
fn has_no_reload_drop_in(extension: &Extension) -> bool {
    extension.tree.iter().any(|(path, entry)| {
        let Ok(path) = str::from_utf8(path) else {
            return false;
        };
        let of_service = path.strip_prefix(UNITS).is_some_and(|path| {
            path.starts_with("systemd-sysext-initrd.service.d/")
                || path.starts_with("systemd-sysext.service.d/")
        });
        let text = text_of(&extension.tree, path).unwrap_or_default();
        of_service && matches!(entry.kind, Kind::File(_)) && text.contains("--no-reload")
    })
}

pub(super) fn switch_root(subject: &Subject<'_>) -> Vec<Found> {
    // A drop-in of one extension serves all: it is for the service that unmerges them.
    if sysexts(subject).any(has_no_reload_drop_in) {
        return Vec::new();
    }
    sysexts(subject)
        .filter(|extension| reloading(extension))
        .map(|extension| {
            let reason = "it reloads the manager, so the unmerge does too, and the root's mount can get lost before the switch";
            let remedy = "add a drop-in for systemd-sysext-initrd.service with ExecStop=systemd-sysext unmerge --no-reload";
            Found::new(&extension.file.path, reason, remedy)
        })
        .collect()
}

pub(super) fn upheld_service(subject: &Subject<'_>) -> Vec<Found> {
    let upheld = sysexts(subject).filter_map(|extension| {
        let (target, unit) = links(extension, "upholds").find(|(_, unit)| unit.ends_with(".service"))?;
        let reason = format!("{target} upholds {unit}: if it fails it is started again, about once a second, for ever");
        let remedy = "uphold a target that wants the service";
        Some(Found::new(&extension.file.path, reason, remedy))
    });
    upheld.collect()
}

/// A unit without `DefaultDependencies=no` waits for basic.target, which waits for the merge, which waits for the unit.
pub(super) fn restart_unit_waits(subject: &Subject<'_>) -> Vec<Found> {
    let waiting = sysexts(subject).filter_map(|extension| {
        let unit = restart_units(extension).find(|unit| {
            let text = text_of(&extension.tree, &format!("{UNITS}{unit}"));
            text.is_some_and(|text| !has_no_default_dependencies(&text))
        })?;
        let reason = format!("the merge waits for {unit}, which by its default dependencies waits for the merge: the boot hangs");
        let remedy = "give it DefaultDependencies=no, or start it by sysinit.target.upholds/";
        Some(Found::new(&extension.file.path, reason, remedy))
    });
    waiting.collect()
}

fn has_no_default_dependencies(unit: &str) -> bool {
    let mut values = unit
        .lines()
        .filter_map(|line| line.trim().strip_prefix("DefaultDependencies="));
    matches!(
        values.next_back(),
        Some("no" | "false" | "off" | "0" | "n" | "f")
    )
}

pub(super) fn restart_unit_of_base(subject: &Subject<'_>) -> Vec<Found> {
    let restarting = sysexts(subject).filter_map(|extension| {
        let unit = restart_units(extension).find(|unit| {
            let path = format!("{UNITS}{unit}");
            let of_base = subject.initrd().is_some_and(|initrd| initrd.get(&path).is_some());
            of_base && extension.tree.get(&path).is_none()
        })?;
        let reason = format!("it lists {unit} of the initrd, which the unmerge starts again: the switch to the root never comes");
        Some(Found::new(&extension.file.path, reason, "list only units of the extension"))
    });
    restarting.collect()
}
