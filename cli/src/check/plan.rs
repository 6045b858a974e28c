//! Which boots there are to check: every UKI the boot loader finds, and every entry that starts one.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use ukikit_esp::{BootFiles, Companion, Esp, File, LoaderEntry, Placing, Start, Target, UkiPath};

use super::subject::base_of;
use super::{Circumstances, Findings, Listing, Played, Subject, rehearse};
use crate::{Base, PlannedBoot};

/// One boot to check.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Planned {
    /// What it is called: the UKI, or the file of the entry.
    pub label: String,
    /// What takes part.
    pub boot: PlannedBoot,
    /// The `extra` lines of the entry.
    pub extras: Vec<String>,
}

/// Every boot of an ESP, or those of one UKI: of the UKIs in `EFI/Linux`, and by the entries of type #1.
///
/// # Errors
///
/// What the file system says. A UKI that is asked for and not there is one of them.
pub fn boots(esp: &Esp, only: Option<&UkiPath>, secure_boot: bool) -> Result<Vec<Planned>> {
    let mut found: Vec<Planned> = Vec::new();
    let ukis = match only {
        Some(uki) => {
            esp.uki(uki)?;
            vec![uki.clone()]
        }
        None => esp.ukis()?,
    };
    for uki in ukis {
        let mut start = Start::default();
        start.secure_boot = secure_boot;
        let boot = PlannedBoot::read(esp, uki, &[], start)?;
        let label = boot.uki_path.to_string();
        let extras = Vec::new();
        found.push(Planned {
            label,
            boot,
            extras,
        });
    }
    for (label, entry) in entries(esp)? {
        let Some(named) = &entry.uki else { continue };
        if only.is_some_and(|only| !only.is_named_by(named)) {
            continue;
        }
        let Ok(uki) = named.replace('\\', "/").parse::<UkiPath>() else {
            continue;
        };
        let mut start = PlannedBoot::start_of(&entry);
        start.secure_boot = secure_boot;
        let known = found
            .iter()
            .find(|known| known.boot.uki_path.is_named_by(named));
        let boot = match known {
            Some(known) => known.boot.started_with(esp, &entry.extras, start)?,
            None => PlannedBoot::read(esp, uki, &entry.extras, start)?,
        };
        let extras = entry.extras;
        found.push(Planned {
            label,
            boot,
            extras,
        });
    }
    Ok(found)
}

/// The boot entries by their path on the ESP.
fn entries(esp: &Esp) -> Result<Vec<(String, LoaderEntry)>> {
    let mut found = Vec::new();
    for file in esp.files("loader/entries")? {
        if file.name().to_ascii_lowercase().ends_with(".conf") {
            found.push((file.path, LoaderEntry::parse(&file.content)));
        }
    }
    Ok(found)
}

/// Checks an ESP, or what concerns one of its UKIs.
///
/// # Errors
///
/// As [`boots`].
pub fn check_esp(
    esp: &Esp,
    only: Option<&UkiPath>,
    circumstances: &Circumstances,
) -> Result<Findings> {
    let target = only.cloned().map(Target::Uki);
    let mut findings = Findings::default();
    findings.of_listing(&Listing::of(esp, target.as_ref())?);
    let secure_boot = circumstances.secure_boot == Some(true);
    let planned = boots(esp, only, secure_boot)?;
    let bases = Bases::of(&planned);
    let of_boots: Vec<Findings> = planned
        .par_iter()
        .map(|planned| planned.findings(bases.of_boot(&planned.boot), circumstances))
        .collect::<Result<_>>()?;
    of_boots.into_iter().for_each(|more| findings.merge(more));
    findings.sort();
    Ok(findings)
}

/// How every boot of an ESP will go, or those of one UKI.
///
/// # Errors
///
/// As [`boots`].
pub fn play_esp(
    esp: &Esp,
    only: Option<&UkiPath>,
    circumstances: &Circumstances,
) -> Result<Vec<Played>> {
    let planned = boots(esp, only, circumstances.secure_boot == Some(true))?;
    let bases = Bases::of(&planned);
    let played = planned
        .par_iter()
        .map(|planned| Played::new(planned.subject(bases.of_boot(&planned.boot), circumstances)));
    Ok(played.collect())
}

impl Planned {
    fn subject<'a>(
        &'a self,
        base: Result<Option<Base>, String>,
        circumstances: &'a Circumstances,
    ) -> Subject<'a> {
        let label = self.label.clone();
        Subject::new(label, &self.boot, &self.extras, base, circumstances)
    }

    fn findings(
        &self,
        base: Result<Option<Base>, String>,
        circumstances: &Circumstances,
    ) -> Result<Findings> {
        let mut subject = self.subject(base, circumstances);
        if circumstances.rehearse {
            subject.rehearsal = rehearse(&subject)?;
        }
        let mut findings = Findings::default();
        findings.of_boot(&subject);
        Ok(findings)
    }
}

/// What the initrds of UKIs are: each is unpacked once, however many boots there are.
struct Bases<'a>(Vec<(&'a UkiPath, Result<Option<Base>, String>)>);

impl<'a> Bases<'a> {
    fn of(planned: &'a [Planned]) -> Self {
        let mut boots: Vec<&PlannedBoot> = planned.iter().map(|planned| &planned.boot).collect();
        boots.sort_by(|a, b| a.uki_path.as_str().cmp(b.uki_path.as_str()));
        boots.dedup_by(|a, b| a.uki_path == b.uki_path);
        let read = boots
            .into_par_iter()
            .map(|boot| (&boot.uki_path, base_of(boot)));
        Self(read.collect())
    }

    fn of_boot(&self, boot: &PlannedBoot) -> Result<Option<Base>, String> {
        let found = self.0.iter().find(|(path, _)| **path == boot.uki_path);
        found.map_or_else(|| base_of(boot), |(_, base)| base.clone())
    }
}

/// Checks files that are to lie beside one UKI, as if they did: before they are written, or in a directory that is no ESP.
///
/// # Errors
///
/// What keeps a rehearsal from being held, if one is asked for.
pub fn check_boot(
    label: &str,
    boot: PlannedBoot,
    circumstances: &Circumstances,
) -> Result<Findings> {
    let planned = Planned {
        label: label.to_owned(),
        boot,
        extras: Vec::new(),
    };
    let mut findings = planned.findings(base_of(&planned.boot), circumstances)?;
    findings.sort();
    Ok(findings)
}

/// What placing these files beside the target adds to the findings, over all boots they take part in. Nothing is written.
///
/// # Errors
///
/// As [`boots`].
pub fn check_placing(
    esp: &Esp,
    target: &Target,
    files: &[Companion],
    how: &Placing,
    circumstances: &Circumstances,
) -> Result<Findings> {
    let only = match target {
        Target::Uki(uki) => Some(uki),
        _ => None,
    };
    let mut planned = boots(esp, only, circumstances.secure_boot == Some(true))?;
    let before = planned.clone();
    for Planned { boot, .. } in &mut planned {
        let there = boot.files.own.iter().filter(|_| how.only);
        let gone: Vec<String> = there.map(|file| file.name().to_owned()).collect();
        boot.change(target, &gone, files)?;
    }
    let bases = Bases::of(&before);
    let findings =
        |planned: &Planned| planned.findings(bases.of_boot(&planned.boot), circumstances);
    let pairs = before.par_iter().zip(&planned).map(|(before, after)| {
        let after = findings(after)?;
        // What is wrong already is of interest only where something is.
        let before = if after.has_errors() {
            findings(before)?
        } else {
            Findings::default()
        };
        Ok((before, after))
    });
    let mut known = Findings::default();
    let mut added = Findings::default();
    for (before, after) in pairs.collect::<Result<Vec<_>>>()? {
        known.merge(before);
        added.merge(after);
    }
    added.0.retain(|finding| !known.has(finding));
    added.sort();
    Ok(added)
}

/// Checks a directory of credentials, images and addons, by the rules for companions of one UKI.
///
/// # Errors
///
/// What the file system says.
pub fn check_directory(directory: &Path, circumstances: &Circumstances) -> Result<Findings> {
    let mut files = BootFiles::default();
    let read = fs::read_dir(directory);
    let read = read.with_context(|| format!("cannot read `{}`", directory.display()))?;
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths.into_iter().filter(|path| path.is_file()) {
        let name = path.file_name().unwrap_or_default();
        if let Ok(_kind) = ukikit_esp::Kind::taken_by_stub(name) {
            let content = fs::read(&path);
            let content = content.with_context(|| format!("cannot read `{}`", path.display()))?;
            files.own.push(File::new(name.to_string_lossy(), content));
        }
    }
    let mut findings = Findings::default();
    findings.of_listing(&Listing::of_directory(directory)?);
    let boot = PlannedBoot {
        uki_path: "directory.efi".parse()?,
        uki: None,
        files,
        start: Start::default(),
    };
    let label = directory.display().to_string();
    findings
        .0
        .extend(check_boot(&label, boot, circumstances)?.0);
    findings.sort();
    Ok(findings)
}
