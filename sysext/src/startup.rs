//! How an extension's units start in the initrd, and the rules that keep a boot from hanging.
//!
//! ```text
//! sysinit.target ─ upholds ─ ukikit-NAME.target ─ wants ─┬─ the units of the feature
//!                                                        └─ ukikit-coldplug.service, for drivers and udev rules
//! ```
//!
//! sysinit.target becomes active after the merge, so what it upholds is started then. Links in `.wants` come too
//! late for that. Upheld is a target: a failing service would be started again for ever.

use crate::{Check, Entry, Error, Finding, Kind, Name, Release, Tree};

const UNITS: &str = "usr/lib/systemd/system";
/// A field of the release file.
pub type Field = (&'static str, &'static str);
/// With it the manager sees the units.
const RELOAD: Field = ("EXTENSION_RELOAD_MANAGER", "1");

/// Replays what udev did before the merge, with the extension's rules and drivers. The same in every extension.
const COLDPLUG: &str = "[Unit]
Description=Load modules and replay device events for merged extensions
DefaultDependencies=no
Wants=systemd-udevd.service
After=systemd-udevd.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-/usr/lib/systemd/systemd-modules-load
ExecStart=-udevadm control --reload
ExecStart=-udevadm trigger --type=devices --action=add
";

/// The unmerge at the end of the initrd must not reload the manager: it would lose the root's mount. The same in
/// every extension that reloads.
const NO_RELOAD: &str = "[Service]
ExecStop=
ExecStop=systemd-sysext unmerge --no-reload
";
/// What merges: from systemd 258 on, and before.
const MERGING: [&str; 2] = ["systemd-sysext-initrd.service", "systemd-sysext.service"];

/// Adds the units that start the extension `name`: those of `wants`, and a replay of events when it brings drivers
/// or udev rules. Returns what the release file has to say because of them; nothing for an extension that starts
/// nothing.
///
/// # Errors
///
/// [`Error::Entry`] when a unit finds no place.
pub fn add(tree: &mut Tree, name: &Name, wants: &[String]) -> Result<Option<Field>, Error> {
    let devices = tree.iter().any(|(path, _)| needs_replay(path));
    let replay = devices.then_some("ukikit-coldplug.service");
    let wanted: Vec<&str> = wants.iter().map(String::as_str).chain(replay).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut target = format!("[Unit]\nDescription=Feature {name}\nDefaultDependencies=no\n");
    for unit in wanted {
        target += &format!("Wants={unit}\n");
    }
    tree.insert(format!("{UNITS}/ukikit-{name}.target"), Entry::file(target))?;
    let link = format!("../ukikit-{name}.target");
    let uphold = format!("{UNITS}/sysinit.target.upholds/ukikit-{name}.target");
    tree.insert(uphold, Entry::symlink(link))?;
    if devices {
        tree.insert(
            format!("{UNITS}/ukikit-coldplug.service"),
            Entry::file(COLDPLUG),
        )?;
    }
    for service in MERGING {
        let path = format!("{UNITS}/{service}.d/50-no-reload.conf");
        tree.insert(path, Entry::file(NO_RELOAD))?;
    }
    Ok(Some(RELOAD))
}

/// The first of these units whose file neither `tree` nor `base` has.
pub fn absent<'a>(tree: &Tree, base: &Tree, units: &'a [String]) -> Option<&'a str> {
    let mut units = units.iter().map(String::as_str);
    units.find(|unit| !has_unit(tree, base, unit))
}

pub(crate) fn has_unit(tree: &Tree, base: &Tree, unit: &str) -> bool {
    let path = format!("{UNITS}/{}", file_of(unit));
    tree.get(&path).is_some() || base.resolve(&path).is_some()
}

/// `a@b.service` is in the file `a@.service`.
fn file_of(unit: &str) -> String {
    match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((name, _)), Some((_, kind))) => format!("{name}@.{kind}"),
        _ => unit.to_owned(),
    }
}

fn needs_replay(path: &[u8]) -> bool {
    path.starts_with(b"usr/lib/udev/rules.d/")
        || path.starts_with(b"usr/lib/modules-load.d/")
        || crate::collect::module_of(path).is_some()
}

/// Each unit that would not start, hang the boot or keep it from switching to the root. `all` is the extension over
/// its base.
///
/// # Errors
///
/// [`Error::Read`] for a unit that cannot be read.
pub(crate) fn check(tree: &Tree, all: &Tree, release: &Release) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let mut find = |path: &[u8], what: String| {
        let place = String::from_utf8_lossy(path).into_owned();
        findings.push(Finding::new(Check::Needs, place, what));
    };
    for (path, _) in tree.iter() {
        let text = String::from_utf8_lossy(path);
        let upheld = text
            .strip_prefix(UNITS)
            .and_then(|rest| rest.split_once(".upholds/"));
        if upheld.is_some_and(|(_, unit)| !unit.ends_with(".target")) {
            find(path, "upholds a service: one that fails is started again for ever; uphold a target that wants it".into());
        }
    }
    let restarted = release.value("EXTENSION_RESTART_UNITS").unwrap_or_default();
    for unit in restarted.split_ascii_whitespace() {
        let path = format!("{UNITS}/{unit}");
        let own = text_of(tree, path.as_bytes())?.unwrap_or_default();
        if !own
            .lines()
            .any(|line| line.trim() == "DefaultDependencies=no")
        {
            find(path.as_bytes(), "is in EXTENSION_RESTART_UNITS= without DefaultDependencies=no: it waits for the merge that waits for it, for ever".into());
        }
    }
    let reloads = release.value(RELOAD.0) == Some("1") || !restarted.is_empty();
    if reloads && !has_remedy(all)? {
        let path = format!("{UNITS}/{}.d/50-no-reload.conf", MERGING[0]);
        find(path.as_bytes(), "is missing or another: an extension that reloads the manager loses the root's mount at its end".into());
    }
    Ok(findings)
}

fn has_remedy(all: &Tree) -> Result<bool, Error> {
    for service in MERGING {
        let directory = format!("{UNITS}/{service}.d/");
        for (path, _) in all
            .iter()
            .filter(|(path, _)| path.starts_with(directory.as_bytes()))
        {
            if text_of(all, path)?.is_some_and(|text| text.contains("unmerge --no-reload")) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Units are some lines; more is not read.
const LONGEST_UNIT: usize = 1 << 20;

pub(crate) fn text_of(tree: &Tree, path: &[u8]) -> Result<Option<String>, Error> {
    let Some(path) = tree.resolve(path) else {
        return Ok(None);
    };
    match tree.get(&path).map(|entry| &entry.kind) {
        Some(Kind::File(content)) if content.size() <= LONGEST_UNIT as u64 => {
            let text = content.read(LONGEST_UNIT)?;
            Ok(Some(String::from_utf8_lossy(&text).into_owned()))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(entries: &[(&str, Entry)], release: &str) -> Vec<String> {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            tree.insert(path, entry.clone()).unwrap();
        }
        let release = Release::parse(release.as_bytes()).unwrap();
        let found = check(&tree, &tree, &release).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_it_adds_passes_its_own_rules() {
        let mut tree = Tree::new();
        let rule = Entry::file("");
        tree.insert("usr/lib/udev/rules.d/69-lvm.rules", rule)
            .unwrap();
        add(
            &mut tree,
            &"lvm".parse().unwrap(),
            &["a.service".to_owned()],
        )
        .unwrap();
        let target = text_of(&tree, b"usr/lib/systemd/system/ukikit-lvm.target").unwrap();
        assert_eq!(
            target.unwrap(),
            "[Unit]\nDescription=Feature lvm\nDefaultDependencies=no\nWants=a.service\nWants=ukikit-coldplug.service\n"
        );
        let release = Release::parse(b"EXTENSION_RELOAD_MANAGER=1\n").unwrap();
        assert_eq!(check(&tree, &tree, &release).unwrap(), []);
    }

    #[test]
    fn what_starts_nothing_does_not_reload() {
        let mut tree = Tree::new();
        tree.insert("usr/bin/nano", Entry::file("")).unwrap();
        let name = "recovery".parse().unwrap();
        assert_eq!(add(&mut tree, &name, &[]).unwrap(), None);
        assert!(tree.get(UNITS).is_none());
    }

    #[test]
    fn names_what_would_hang_or_loop() {
        let units = "usr/lib/systemd/system";
        let uphold = format!("{units}/sysinit.target.upholds/a.service");
        assert_eq!(
            findings(&[(&uphold, Entry::symlink("../a.service"))], "ID=a\n"),
            [format!(
                "{uphold}: upholds a service: one that fails is started again for ever; uphold a target that wants it"
            )]
        );
        let unit = format!("{units}/a.target");
        let found = findings(
            &[(&unit, Entry::file("[Unit]\n"))],
            "EXTENSION_RESTART_UNITS=a.target\n",
        );
        assert_eq!(
            found,
            [
                format!(
                    "{unit}: is in EXTENSION_RESTART_UNITS= without DefaultDependencies=no: it waits for the merge that waits for it, for ever"
                ),
                format!(
                    "{units}/systemd-sysext-initrd.service.d/50-no-reload.conf: is missing or another: an extension that reloads the manager loses the root's mount at its end"
                ),
            ]
        );
    }
}
