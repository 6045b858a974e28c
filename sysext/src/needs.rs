//! What an extension needs of the base under it: nothing may be missing once both are merged.

use std::collections::BTreeMap;

use crate::adapt::{leads_to, same};
use crate::collect::{Program, check_modules, firmware, machine_of};
use crate::startup::{self, text_of};
use crate::tree::parent;
use crate::{Check, Error, Finding, Kind, Release, Tree};

/// Places that are empty in an initrd's files and full when it runs.
const RUNTIME: [&[u8]; 5] = [b"dev/", b"proc/", b"sys/", b"run/", b"tmp/"];
/// Where units are.
const UNITS: &[u8] = b"usr/lib/systemd/system/";
/// Where the manager looks for programs without a path.
const PROGRAMS: [&str; 4] = ["usr/local/bin", "usr/bin", "usr/sbin", "sbin"];

/// Each program, library, module, unit's program and link's target that neither the extension nor the base has,
/// and what breaks the rules of starting.
///
/// # Errors
///
/// [`Error::Read`] for a file that cannot be read.
pub fn check(tree: &Tree, base: &Tree, release: &Release) -> Result<Vec<Finding>, Error> {
    let all = over(tree, base)?;
    let machine = machine_of(base)?;
    let mut findings = Vec::new();
    for (path, entry) in tree.iter() {
        let missing = match &entry.kind {
            Kind::File(_) if path.starts_with(UNITS) => missing_of_unit(path, &all)?,
            Kind::File(content) => match Program::read(content)? {
                program if program.is_foreign(machine) => {
                    vec!["is for another processor than the programs of the base".to_owned()]
                }
                program => missing_of_program(path, &program, &all),
            },
            Kind::Symlink(target) => missing_of_link(path, target, &all),
            _ => Vec::new(),
        };
        let place = || String::from_utf8_lossy(path).into_owned();
        findings.extend(
            missing
                .into_iter()
                .map(|what| Finding::new(Check::Needs, place(), what)),
        );
    }
    findings.extend(check_modules(tree, &all)?);
    findings.extend(startup::check(tree, &all, release)?);
    Ok(findings)
}

/// Each file that another extension, called `name`, has differently. The release file is each one's own.
///
/// # Errors
///
/// [`Error::Read`] for a file that cannot be read.
pub fn conflicts(tree: &Tree, other: &Tree, name: &str) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for (path, entry) in tree.iter().filter(|(_, entry)| !entry.is_directory()) {
        if let Some(theirs) = other.get(path).filter(|_| !path.is_empty())
            && !same(entry, theirs)?
        {
            let what = format!("differs from that of `{name}`: only one of them would be seen");
            let place = String::from_utf8_lossy(path).into_owned();
            findings.push(Finding::new(Check::Base, place, what));
        }
    }
    Ok(findings)
}

/// Firmware that modules of the extension name and neither it nor the base has, by module.
///
/// # Errors
///
/// [`Error::Read`] for a module that cannot be read.
pub fn absent_firmware(tree: &Tree, base: &Tree) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let there = |name: &str| {
        let mut places = firmware::places(name);
        places.any(|path| tree.resolve(&path).is_some() || base.resolve(&path).is_some())
    };
    let mut absent = BTreeMap::new();
    for (module, names) in firmware::named(tree)? {
        let missing: Vec<String> = names.into_iter().filter(|name| !there(name)).collect();
        if !missing.is_empty() {
            absent.insert(module, missing);
        }
    }
    Ok(absent)
}

/// The merged tree.
fn over(tree: &Tree, base: &Tree) -> Result<Tree, Error> {
    let mut all = base.clone();
    for (path, entry) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        if !(entry.is_directory() && all.get(path).is_some()) {
            all.insert(path, entry.clone())?;
        }
    }
    Ok(all)
}

fn missing_of_program(path: &[u8], program: &Program, all: &Tree) -> Vec<String> {
    let interpreter = program
        .interpreter
        .iter()
        .filter(|path| all.resolve(path).is_none());
    let interpreter = interpreter
        .map(|path| format!("needs {path}, which is neither in the base nor among these files"));
    let libraries = program.libraries.iter().filter(|library| {
        !program
            .candidates(path, library)
            .any(|path| all.resolve(path).is_some())
    });
    let libraries = libraries.map(|name| {
        format!("needs {name}, which is neither in the base nor among these files where the loader looks")
    });
    interpreter.chain(libraries).collect()
}

fn missing_of_link(path: &[u8], target: &[u8], all: &Tree) -> Vec<String> {
    let absolute = target.strip_prefix(b"/");
    let runtime =
        absolute.is_some_and(|target| RUNTIME.iter().any(|place| target.starts_with(place)));
    // Units are named by links that need no target, and masked by a device.
    let unit = path.starts_with(UNITS) && parent(path) != b"usr/lib/systemd/system";
    if runtime || unit || all.resolve(path).is_some() || is_copied(path, target, all) {
        return Vec::new();
    }
    let target = String::from_utf8_lossy(target);
    vec![format!(
        "leads to {target}, which is neither in the base nor among these files"
    )]
}

/// Whether the link leads to a file that `systemd-tmpfiles` copies there.
fn is_copied(path: &[u8], target: &[u8], all: &Tree) -> bool {
    let copy = [b"usr/share/factory/", &leads_to(path, target)[..]].concat();
    all.get(copy).is_some()
}

/// A program whose failure is ignored (`-`) may be missing too.
fn missing_of_unit(path: &[u8], all: &Tree) -> Result<Vec<String>, Error> {
    let Some(unit) = text_of(all, path)? else {
        return Ok(Vec::new());
    };
    let programs = unit.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        let starts = key.starts_with("ExecStart")
            || key.starts_with("ExecReload")
            || key.starts_with("ExecCondition");
        let word = value.split_ascii_whitespace().next().filter(|_| starts)?;
        let program = word.trim_start_matches(['@', ':', '+', '!', '|']);
        (!program.starts_with('-') && !program.contains(['%', '$'])).then_some(program)
    });
    let missing = programs.filter(|program| match program.strip_prefix('/') {
        Some(path) => all.resolve(path).is_none(),
        None => !PROGRAMS
            .iter()
            .any(|place| all.resolve(format!("{place}/{program}")).is_some()),
    });
    Ok(missing
        .map(|program| {
            format!("starts {program}, which is neither in the base nor among these files")
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;

    #[test]
    fn names_what_is_in_neither() {
        let (mut tree, mut base) = (Tree::new(), Tree::new());
        base.insert("usr/bin/sh", Entry::file("")).unwrap();
        base.insert("bin", Entry::symlink("usr/bin")).unwrap();
        let mut put = |path: &str, entry| tree.insert(path, entry).unwrap();
        put("usr/bin/good", Entry::file("#!/bin/sh\n"));
        put("usr/bin/script", Entry::file("#!/usr/bin/python3\n"));
        put("usr/bin/link", Entry::symlink("nothing"));
        put("usr/bin/null", Entry::symlink("/dev/null"));
        put("usr/lib/a.conf", Entry::symlink("../../etc/a.conf"));
        put("usr/share/factory/etc/a.conf", Entry::file(""));
        let unit = "[Service]\nExecStart=sh -c x\nExecStart=-/usr/bin/maybe\nExecStart=!/usr/bin/never %i\n";
        put("usr/lib/systemd/system/a.service", Entry::file(unit));
        let found = check(&tree, &base, &Release::default()).unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "usr/bin/link: leads to nothing, which is neither in the base nor among these files",
                "usr/bin/script: needs /usr/bin/python3, which is neither in the base nor among these files",
                "usr/lib/systemd/system/a.service: starts /usr/bin/never, which is neither in the base nor among these files",
            ]
        );
    }

    #[test]
    fn programs_are_for_the_processor_of_the_base() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut other = own.clone();
        // e_machine: s390, which no other test runs on.
        other[18..20].copy_from_slice(&22_u16.to_ne_bytes());
        let (mut tree, mut base) = (Tree::new(), Tree::new());
        base.insert("usr/bin/own", Entry::file(own)).unwrap();
        tree.insert("usr/bin/other", Entry::file(other)).unwrap();
        let found = check(&tree, &base, &Release::default()).unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["usr/bin/other: is for another processor than the programs of the base"]
        );
    }

    #[test]
    fn two_extensions_share_only_what_is_equal() {
        let (mut one, mut other) = (Tree::new(), Tree::new());
        for (tree, text) in [(&mut one, "a"), (&mut other, "b")] {
            tree.insert("usr/lib/x", Entry::file(text)).unwrap();
            tree.insert("usr/lib/same", Entry::file("same")).unwrap();
        }
        let found = conflicts(&one, &other, "other").unwrap();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["usr/lib/x: differs from that of `other`: only one of them would be seen"]
        );
    }
}
