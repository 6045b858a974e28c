//! What the program dracut puts into an initrd: run for the modules of a base and some more.
//!
//! ```text
//! modules of the base ─┐
//! modules wished for  ─┴─ dracut, not host-only ─ archive ─ Tree      as initrd::read unpacks it
//! ```
//!
//! dracut runs as whoever calls. In a system that is not this one it runs behind chroot(1), in name spaces of its own
//! that unshare(1) makes, and is not root: it would try to keep owners that nobody may give there.

use std::io;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::{Error, Kind, Tree, initrd};

const DRACUT: &str = "dracut";
/// What it is told always. The result is read here, so compressing it would be for nothing.
const OPTIONS: [&str; 6] = [
    "--force",
    "--no-hostonly",
    "--no-hostonly-cmdline",
    "--no-early-microcode",
    "--no-compress",
    "--reproducible",
];
/// The name of the archive.
const ARCHIVE: &str = "initrd";
/// How many of its last lines are shown when it fails.
const LAST: usize = 5;
/// Where dracut records which modules it took.
const RECORD: &str = "usr/lib/dracut/modules.txt";

/// Enters the system `$1`, with the directory `$2` on its `/tmp`.
const ENTER: &str = r#"
    root=$1 work=$2
    shift 2
    for place in dev proc sys; do mount --rbind "/$place" "$root/$place"; done
    mount --bind "$work" "$root/tmp"
    exec unshare --map-user=1000 --map-group=1000 --keep-caps chroot "$root" "$@"
"#;

/// One run of dracut.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Dracut<'a> {
    /// Its name or path, in the system at `root`.
    pub program: &'a str,
    /// The system that it takes files of.
    pub root: &'a Path,
    /// The kernel, as `uname -r` says it.
    pub kernel: &'a str,
    /// The modules of the base.
    pub base: &'a [String],
    /// Those it has not.
    pub modules: &'a [String],
}

impl<'a> Dracut<'a> {
    /// A run of the program `dracut` of the running system, without modules.
    pub fn new(kernel: &'a str) -> Self {
        Self {
            program: DRACUT,
            root: Path::new("/"),
            kernel,
            base: &[],
            modules: &[],
        }
    }

    /// Runs it and reads what it made.
    ///
    /// # Errors
    ///
    /// [`Error::NotInstalled`] without dracut, [`Error::Value`] for a module that it has not or does not take,
    /// [`Error::Program`] with its last lines when it fails; what keeps its archive from being read.
    pub fn run(&self) -> Result<Tree, Error> {
        let all = || self.base.iter().chain(self.modules);
        if let Some(name) = all().find(|name| !is_name(name)) {
            return Err(Error::value(format!(
                "`{name}` is no name of a dracut module"
            )));
        }
        let work = TempDir::new().map_err(|source| Error::Read {
            path: std::env::temp_dir(),
            source,
        })?;
        let output = self.command(work.path()).output().map_err(not_started)?;
        let said = said(&output);
        let path = work.path().join(ARCHIVE);
        if !output.status.success() || !path.exists() {
            return Err(failed(&said));
        }
        let archive = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
        let tree = initrd::read(&archive)?;
        self.check(&tree, &said)?;
        Ok(tree)
    }

    fn command(&self, work: &Path) -> Command {
        let modules: Vec<&str> = self
            .base
            .iter()
            .chain(self.modules)
            .map(String::as_str)
            .collect();
        let here = self.root == Path::new("/");
        let inside = if here { work } else { Path::new("/tmp") };
        let mut command = if here {
            Command::new(self.program)
        } else {
            self.entering(work)
        };
        command
            .args(OPTIONS)
            .args(["--kver", self.kernel, "--tmpdir"]);
        command.arg(inside).args(["--modules", &modules.join(" ")]);
        command.arg(inside.join(ARCHIVE));
        // Device nodes and attributes take privileges, and have no place in an extension.
        let quiet = [
            ("LC_ALL", "C"),
            ("DRACUT_NO_MKNOD", "1"),
            ("DRACUT_NO_XATTR", "1"),
        ];
        command.envs(quiet);
        command
    }

    fn entering(&self, work: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "--propagation=private"]);
        command.args(["sh", "-euc", ENTER, "-"]);
        command.arg(self.root).arg(work).arg(self.program);
        command
    }

    /// dracut leaves out a module whose programs are missing, and says so in one line of many.
    fn check(&self, tree: &Tree, said: &str) -> Result<(), Error> {
        let record = match tree.get(RECORD).map(|entry| &entry.kind) {
            Some(Kind::File(content)) => content.read(1 << 20)?,
            _ => return Ok(()),
        };
        let record = String::from_utf8_lossy(&record);
        let taken = |module: &str| record.split_ascii_whitespace().any(|name| name == module);
        match self.modules.iter().find(|module| !taken(module)) {
            None => Ok(()),
            Some(module) => Err(left_out(module, said)),
        }
    }
}

/// What its own scripts allow in the name of a module's directory.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(allowed)
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn not_started(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotInstalled { program: DRACUT },
        _ => Error::Program {
            program: DRACUT,
            what: source.to_string(),
        },
    }
}

fn failed(said: &str) -> Error {
    for line in said.lines() {
        if let Some(name) = module_that(line, "cannot be found") {
            return Error::value(format!("dracut has no module `{name}`"));
        }
        if let Some(name) = module_that(line, "cannot be installed") {
            return Error::value(format!(
                "dracut cannot install its module `{name}`: what it takes is not there, a program or driver"
            ));
        }
    }
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines
        .get(lines.len().saturating_sub(LAST)..)
        .unwrap_or_default();
    let what = if last.is_empty() {
        "failed and said nothing".to_owned()
    } else {
        format!("failed; its last lines:\n  {}", last.join("\n  "))
    };
    Error::Program {
        program: DRACUT,
        what,
    }
}

/// From `dracut[E]: Module 'NAME' cannot be found.`
fn module_that<'a>(line: &'a str, fate: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once("Module '")?;
    let (name, rest) = rest.split_once('\'')?;
    rest.trim_start().starts_with(fate).then_some(name)
}

fn left_out(module: &str, said: &str) -> Error {
    let named = format!("'{module}'");
    let reason = said.lines().find(|line| line.contains(&named));
    let reason = reason
        .map(|line| format!(": {}", line.trim()))
        .unwrap_or_default();
    Error::value(format!("dracut did not take its module `{module}`{reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_dracut_said() {
        assert_eq!(
            failed("dracut[I]: a\ndracut[E]: Module 'fire' cannot be found.\n").to_string(),
            "dracut has no module `fire`"
        );
        assert_eq!(
            failed("dracut[E]: Module 'lvm' cannot be installed.\n").to_string(),
            "dracut cannot install its module `lvm`: what it takes is not there, a program or driver"
        );
        assert_eq!(
            failed("1\n2\n\n3\n4\n5\n6\n").to_string(),
            "dracut: failed; its last lines:\n  2\n  3\n  4\n  5\n  6"
        );
        assert_eq!(failed(" \n").to_string(), "dracut: failed and said nothing");
        let line = "dracut[I]: Module 'iscsi' will not be installed, because command 'iscsiadm' could not be found!";
        assert_eq!(
            left_out("iscsi", &format!("x\n{line}\ny")).to_string(),
            format!("dracut did not take its module `iscsi`: {line}")
        );
    }

    #[test]
    fn names_are_words() {
        for (name, fine) in [
            ("iscsi", true),
            ("tpm2-tss", true),
            ("--uefi", false),
            ("a b", false),
            ("../x", false),
            ("", false),
        ] {
            assert_eq!(is_name(name), fine, "{name}");
        }
        let modules = ["a b".to_owned()];
        let run = Dracut {
            modules: &modules,
            ..Dracut::new("1")
        };
        assert_eq!(
            run.run().unwrap_err().to_string(),
            "`a b` is no name of a dracut module"
        );
    }
}
