//! Finds the mounted EFI system partition, in the places and the order of bootctl.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use ukikit_esp::{Esp, Target};

use crate::output::with_hint;
use crate::system;

/// Where the ESP is mounted, or XBOOTLDR, which is looked at second for a UKI that is not on the ESP.
const PLACES: [&str; 3] = ["/efi", "/boot", "/boot/efi"];

/// The partition the target is on.
pub(in crate::command) fn esp(target: Option<&Target>) -> Result<Esp> {
    let told = ["SYSTEMD_ESP_PATH", "SYSTEMD_XBOOTLDR_PATH"]
        .into_iter()
        .filter_map(system::environment)
        .map(PathBuf::from);
    let told: Vec<PathBuf> = told.collect();
    let relaxed = system::environment("SYSTEMD_RELAX_ESP_CHECKS").is_some_and(|value| value == "1");
    let places = if told.is_empty() {
        PLACES.map(PathBuf::from).to_vec()
    } else {
        told
    };
    find(
        &places,
        target,
        |path| {
            if relaxed { Ok(()) } else { check(path) }
        },
    )
}

/// The first place that passes and has the UKI, or else the first that passes.
fn find(
    places: &[PathBuf],
    target: Option<&Target>,
    check: impl Fn(&Path) -> Result<(), &'static str>,
) -> Result<Esp> {
    let mut first = None;
    let mut refused = Vec::new();
    for path in places.iter().filter(|path| path.is_dir()) {
        if let Err(reason) = check(path) {
            refused.push(format!("`{}` {reason}", path.display()));
            continue;
        }
        let esp = Esp::at(path)?;
        match target {
            Some(Target::Uki(uki)) if esp.find_uki(uki)?.is_none() => {
                first.get_or_insert(esp);
            }
            _ => return Ok(esp),
        }
    }
    if let Some(esp) = first {
        return Ok(esp);
    }
    let looked: Vec<String> = places
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    let error = if refused.is_empty() {
        anyhow!(
            "no EFI system partition is mounted on {}",
            looked.join(", ")
        )
    } else {
        anyhow!("no EFI system partition is mounted: {}", refused.join(", "))
    };
    Err(with_hint(error, "name its root directory with --esp=DIR"))
}

/// Whether a FAT file system is mounted there.
fn check(path: &Path) -> Result<(), &'static str> {
    const FAT: u64 = 0x4d44;
    let above = path.join("..");
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    if device(path) == device(&above) {
        return Err("is not a mount point");
    }
    let kind = rustix::fs::statfs(path).map(|stat| u64::try_from(stat.f_type));
    match kind {
        Ok(Ok(FAT)) => Ok(()),
        _ => Err("is not a FAT file system"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_partition_that_has_the_uki() {
        let room = tempfile::tempdir().unwrap();
        let places: Vec<PathBuf> = ["efi", "boot", "none"]
            .iter()
            .map(|name| room.path().join(name))
            .collect();
        for place in &places[..2] {
            fs::create_dir_all(place.join("EFI/Linux")).unwrap();
        }
        fs::write(places[1].join("EFI/Linux/a+3.efi"), "").unwrap();
        let found = |target: &str, check: fn(&Path) -> Result<(), &'static str>| {
            let target = Target::Uki(target.parse().unwrap());
            find(&places, Some(&target), check).map(|esp| esp.root().to_owned())
        };
        assert_eq!(found("EFI/Linux/a.efi", |_| Ok(())).unwrap(), places[1]);
        assert_eq!(found("EFI/Linux/b.efi", |_| Ok(())).unwrap(), places[0]);
        assert_eq!(find(&places, None, |_| Ok(())).unwrap().root(), places[0]);
        let only_boot = |path: &Path| {
            if path.ends_with("boot") {
                Ok(())
            } else {
                Err("is not a mount point")
            }
        };
        assert_eq!(found("EFI/Linux/b.efi", only_boot).unwrap(), places[1]);
    }

    #[test]
    fn says_where_it_looked() {
        let room = tempfile::tempdir().unwrap();
        let place = room.path().join("efi");
        let sentence = || {
            format!(
                "{:?}",
                find(std::slice::from_ref(&place), None, check).unwrap_err()
            )
        };
        let shown = place.display();
        assert!(sentence().contains(&format!("no EFI system partition is mounted on `{shown}`")));
        fs::create_dir(&place).unwrap();
        assert!(sentence().contains(&format!(
            "no EFI system partition is mounted: `{shown}` is not a mount point"
        )));
    }
}
