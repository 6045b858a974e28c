//! A second opinion: the programs of the UKI's own initrd, run over what the boot hands them, without a virtual machine.
//!
//! ```text
//! initrd with its addons, images as directories ─ temporary directory ─ unshare ─ stage.sh ─ Rehearsal
//! ```
//!
//! They run as nobody, in user, mount, process and network namespaces of their own, and see no device, no host file and no
//! network. What takes dm-verity cannot be rehearsed there: of images that fail by their signature or bytes the model alone
//! speaks. Kernel modules and firmware are left out.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;
use ukikit_sysext::{ImageClass, Kind, Tree};

use super::{Found, Subject};
use crate::model::{Extension, Outcome};

/// What the initrd's own programs did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rehearsal {
    /// The extensions that systemd-sysext and systemd-confext have merged, each once, sorted.
    pub merged: Vec<String>,
    /// The generators and how each ended: 0 is good.
    pub generators: Vec<(String, i32)>,
    /// What they said.
    pub said: String,
}

/// Of `systemd-sysext status --json=`.
#[derive(Deserialize)]
struct Hierarchy {
    extensions: Vec<String>,
}

/// Plays the boot's initrd. `None` without one.
///
/// # Errors
///
/// Where there are no namespaces for users, or the initrd does not fit into the directory for temporary files.
pub fn rehearse(subject: &Subject<'_>) -> Result<Option<Rehearsal>> {
    let Some(initrd) = subject.initrd() else {
        return Ok(None);
    };
    let place = TempDir::new().context("cannot make a directory for the rehearsal")?;
    let root = place.path();
    let staged = || -> io::Result<()> {
        let owner = Owner::of_this_process()?;
        fs::set_permissions(root, Permissions::from_mode(0o755))?;
        owner.write(root, initrd)?;
        for directory in ["run", "tmp", "dev", "proc"] {
            owner.directory(&root.join(directory))?;
        }
        for extension in subject.model.extensions.iter().filter(|e| is_staged(e)) {
            let name = extension.name.as_deref().unwrap_or_default();
            let class = root.join(format!("staged-{}", extension.class.as_str()));
            owner.directory(&class)?;
            owner.directory(&class.join(name))?;
            owner.write(&class.join(name), &extension.tree)?;
        }
        owner.give(root)
    };
    staged().context("cannot lay out the initrd for the rehearsal")?;
    run(root, subject.command_line()).map(Some)
}

/// Those whose fate does not hang on their bytes and signature.
fn is_staged(extension: &Extension) -> bool {
    let outcome = &extension.outcome;
    matches!(
        outcome,
        Outcome::Merged | Outcome::DraggedDown(_) | Outcome::Skipped
    )
}

const STAGE: &str = include_str!("rehearse/stage.sh");
/// Who the programs are outside, when this process is root.
const NOBODY: u32 = 65534;

fn run(root: &Path, command_line: &str) -> Result<Rehearsal> {
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "--net",
        "--ipc",
    ]);
    unshare.args([
        "--propagation",
        "private",
        "sh",
        "-eu",
        "-c",
        STAGE,
        "stage",
    ]);
    unshare.arg(root).arg(command_line);
    if Owner::of_this_process()?.is_root {
        unshare.uid(NOBODY).gid(NOBODY);
    }
    let output = unshare.output().context("cannot run the program unshare")?;
    read(&output)
}

fn read(output: &Output) -> Result<Rehearsal> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        let last = said.lines().last().unwrap_or("it says nothing");
        bail!("cannot rehearse here, which takes user and mount namespaces: {last}");
    }
    let mut rehearsal = Rehearsal {
        said,
        ..Rehearsal::default()
    };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split_once(' ') {
            Some(("merged", json)) => {
                let status: Vec<Hierarchy> = serde_json::from_str(json)
                    .context("cannot read the status that systemd-sysext told in the rehearsal")?;
                let names = status.into_iter().flat_map(|one| one.extensions);
                rehearsal.merged.extend(names);
            }
            Some(("generator", line)) => {
                let (name, status) = line.rsplit_once(' ').unwrap_or((line, ""));
                let status = status.parse().unwrap_or(-1);
                rehearsal.generators.push((name.to_owned(), status));
            }
            _ => {}
        }
    }
    rehearsal.merged.sort();
    rehearsal.merged.dedup();
    Ok(rehearsal)
}

/// Whom the staged files belong to.
#[derive(Clone, Copy)]
struct Owner {
    is_root: bool,
}

impl Owner {
    fn of_this_process() -> io::Result<Self> {
        let is_root = fs::metadata("/proc/self")?.uid() == 0;
        Ok(Self { is_root })
    }

    /// Directories, then files, then links: so nothing is ever written through a link.
    fn write(self, root: &Path, tree: &Tree) -> io::Result<()> {
        let at = |path: &[u8]| root.join(std::ffi::OsStr::from_bytes(path));
        for (path, entry) in tree.iter() {
            if entry.is_directory() && !path.is_empty() {
                self.directory(&at(path))?;
            }
        }
        for (path, entry) in tree.iter() {
            if let Kind::File(content) = &entry.kind
                && !is_of_kernel(path)
            {
                let path = at(path);
                let mut file = File::create_new(&path)?;
                io::copy(&mut content.open().map_err(io::Error::other)?, &mut file)?;
                file.flush()?;
                let mode = if entry.mode & 0o111 == 0 {
                    0o644
                } else {
                    0o755
                };
                file.set_permissions(Permissions::from_mode(mode))?;
                self.give(&path)?;
            }
        }
        for (path, entry) in tree.iter() {
            if let Kind::Symlink(target) = &entry.kind {
                symlink(std::ffi::OsStr::from_bytes(target), at(path))?;
                self.give(&at(path))?;
            }
        }
        Ok(())
    }

    fn directory(self, path: &Path) -> io::Result<()> {
        if !fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
            fs::create_dir(path)?;
        }
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        self.give(path)
    }

    fn give(self, path: &Path) -> io::Result<()> {
        if self.is_root {
            lchown(path, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(())
    }
}

/// What no program of the rehearsal looks at, and most of the initrd's bytes.
fn is_of_kernel(path: &[u8]) -> bool {
    let below = |directory: &[u8]| path.starts_with(directory);
    below(b"usr/lib/firmware/")
        || below(b"usr/lib/modules/") && path.windows(3).any(|w| w == b".ko")
}

pub(super) fn merge(subject: &Subject<'_>) -> Vec<Found> {
    let Some(rehearsal) = &subject.rehearsal else {
        return Vec::new();
    };
    let staged = subject.model.extensions.iter().filter(|e| is_staged(e));
    let differing = staged.filter_map(|extension| {
        let name = extension.name.as_ref()?;
        let expected = extension.outcome != Outcome::Skipped && has_hierarchy(extension);
        let seen = rehearsal.merged.contains(name);
        let reason = match (expected, seen) {
            (true, false) => "the initrd's own program does not merge it, other than expected here",
            (false, true) => "the initrd's own program merges it, other than expected here",
            _ => return None,
        };
        let about = |line: &&str| {
            line.contains(&format!("'{name}'")) || line.contains(&format!(" {name}:"))
        };
        let said = rehearsal.said.lines().find(about);
        let reason = said.map_or(reason.to_owned(), |said| {
            format!("{reason}; it says: {said}")
        });
        let remedy = "trust the initrd, and report how the two differ";
        Some(Found::new(&extension.file.path, reason, remedy))
    });
    differing.collect()
}

/// Whether it has anything to merge.
fn has_hierarchy(extension: &Extension) -> bool {
    let hierarchies: &[&str] = match extension.class {
        ImageClass::Confext => &["etc"],
        _ => &["usr", "opt"],
    };
    hierarchies
        .iter()
        .any(|path| extension.tree.get(path).is_some())
}

pub(super) fn generators(subject: &Subject<'_>) -> Vec<Found> {
    let rehearsal = subject.rehearsal.iter();
    let failed = rehearsal
        .flat_map(|rehearsal| &rehearsal.generators)
        .filter(|(_, status)| *status != 0);
    let found = failed.map(|(name, status)| {
        let reason =
            format!("its generator {name} ends with status {status} on this boot's command line");
        Found::new(
            subject.uki(),
            reason,
            "look at what it says: check the command line and fstab",
        )
    });
    found.collect()
}
