//! A feature from the files of a system: programs with their libraries, drivers with their index and firmware.
//!
//! ```text
//! Wishes ─┬─ programs, files ─ links on the way, interpreters, libraries ─┐
//!         └─ drivers ─ their dependencies, firmware, the kernel's index ──┴─ Tree, as an initrd would hold it
//! ```
//!
//! What the base has is not looked into: its libraries have theirs.

mod drivers;
mod elf;
pub(crate) mod firmware;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tree::{join, parent};
use crate::{Error, Kind, Tree};
pub(crate) use drivers::check as check_modules;
pub(crate) use elf::{Program, machine_of};
use object::elf::Machine;

/// A system with features to take: usually the one whose packages the base was made from.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
}

/// What is to be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wishes {
    /// Programs, by their name or absolute path.
    pub programs: Vec<String>,
    /// Libraries that programs open while they run, by their file name; one that ends in `*` stands for all that begin so.
    pub libraries: Vec<String>,
    /// Files and directories, by their path without a leading slash; directories with all that is in them.
    pub files: Vec<String>,
    /// The same, but a system without them is fine.
    pub optional_files: Vec<String>,
    /// Of each of these lists the first file that the system has.
    pub either: Vec<Vec<String>>,
    /// Kernel modules by their name.
    pub drivers: Vec<String>,
    /// The same, but a kernel without them is fine.
    pub optional_drivers: Vec<String>,
    /// The kernel, as `uname -r` says it. Needed for drivers.
    pub kernel: Option<String>,
}

/// Where programs are looked for by their name.
const PROGRAMS: [&str; 6] = [
    "usr/bin",
    "usr/sbin",
    "usr/lib/systemd",
    "usr/libexec",
    "bin",
    "sbin",
];

impl System {
    /// The system below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Takes what is wished for and all it needs beyond `base`.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] that names what the system has not, [`Error::Read`] for what cannot be read.
    pub fn collect(&self, wishes: &Wishes, base: &Tree) -> Result<Tree, Error> {
        let mut collecting = Collecting {
            system: self,
            base,
            tree: Tree::new(),
            ahead: Vec::new(),
        };
        for program in &wishes.programs {
            let path = self.program(program)?;
            collecting.ahead.push(path);
        }
        let machine = elf::machine_of(base)?;
        for library in &wishes.libraries {
            collecting.ahead.extend(self.libraries(library, machine)?);
        }
        for file in &wishes.files {
            if self.metadata(file.as_bytes()).is_none() {
                return Err(self.lacks(format!("file /{file}")));
            }
            collecting.ahead.push(file.as_bytes().to_vec());
        }
        for files in &wishes.either {
            let has = |file: &&String| self.metadata(file.as_bytes()).is_some();
            let first = files.iter().find(has);
            collecting
                .ahead
                .extend(first.map(|file| file.as_bytes().to_vec()));
        }
        for file in &wishes.optional_files {
            if self.metadata(file.as_bytes()).is_some() {
                collecting.ahead.push(file.as_bytes().to_vec());
            }
        }
        collecting.run()?;
        let mut tree = collecting.tree;
        self.collect_drivers(wishes, base, &mut tree)?;
        Ok(tree)
    }

    /// Below the root, where absolute links lead too.
    fn path(&self, path: &[u8]) -> PathBuf {
        self.root.join(crate::tree::path_of_bytes(path))
    }

    fn program(&self, program: &str) -> Result<Vec<u8>, Error> {
        if let Some(path) = program.strip_prefix('/') {
            let found = self.metadata(path.as_bytes()).map(|_| path.into());
            return found.ok_or_else(|| self.lacks(format!("program {program}")));
        }
        let candidates = PROGRAMS.map(|directory| join(directory.as_bytes(), program.as_bytes()));
        let found = candidates
            .into_iter()
            .find(|path| self.metadata(path).is_some());
        found.ok_or_else(|| self.lacks(format!("program {program}")))
    }

    /// Those of one directory: the first that has any, of those where the loader of this machine looks.
    fn libraries(&self, wanted: &str, machine: Option<Machine>) -> Result<Vec<Vec<u8>>, Error> {
        let matches = |name: &[u8]| match wanted.strip_suffix('*') {
            Some(start) => name.starts_with(start.as_bytes()),
            None => name == wanted.as_bytes(),
        };
        for directory in elf::directories(machine) {
            let place = self.path(directory.as_bytes());
            if !place.is_dir() {
                continue;
            }
            let names = names(&place)?.into_iter().filter(|name| matches(name));
            let found: Vec<_> = names
                .map(|name| join(directory.as_bytes(), &name))
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Err(self.lacks(format!("library {wanted}")))
    }

    /// The libraries that programs of `tree` need and `base` has, in another build than this system: what their build IDs
    /// tell, for both to have one.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] for a file that cannot be read.
    pub fn other_libraries(&self, tree: &Tree, base: &Tree) -> Result<Vec<String>, Error> {
        let mut needed = BTreeSet::new();
        for (path, entry) in tree.iter() {
            let Kind::File(content) = &entry.kind else {
                continue;
            };
            let program = Program::read(content)?;
            for library in &program.libraries {
                let mut candidates = program.candidates(path, library);
                needed.extend(candidates.find(|path| base.resolve(path).is_some()));
            }
        }
        let mut others = Vec::new();
        for path in needed {
            let there = base.resolve(&path).and_then(|path| base.get(path));
            let Some(Kind::File(there)) = there.map(|entry| &entry.kind) else {
                continue;
            };
            // Behind its links, as firmware is.
            let Ok(place) = fs::canonicalize(self.path(&path)) else {
                continue;
            };
            let Kind::File(here) = crate::tree::read_entry(&place)?.kind else {
                continue;
            };
            let builds = [elf::build_id(there)?, elf::build_id(&here)?];
            if let [Some(there), Some(here)] = builds
                && there != here
            {
                others.push(String::from_utf8_lossy(&path).into_owned());
            }
        }
        Ok(others)
    }

    /// Not following a link at the end.
    fn metadata(&self, path: &[u8]) -> Option<fs::Metadata> {
        fs::symlink_metadata(self.path(path)).ok()
    }

    fn lacks(&self, what: String) -> Error {
        Error::value(format!(
            "the system at `{}` has no {what}",
            self.root.display()
        ))
    }
}

/// Paths that are taken, and those that are still to be looked at.
struct Collecting<'a> {
    system: &'a System,
    base: &'a Tree,
    tree: Tree,
    ahead: Vec<Vec<u8>>,
}

impl Collecting<'_> {
    fn run(&mut self) -> Result<(), Error> {
        while let Some(path) = self.ahead.pop() {
            self.take(&path)?;
        }
        Ok(())
    }

    fn take(&mut self, path: &[u8]) -> Result<(), Error> {
        let path = self.real(path)?;
        if self.tree.get(&path).is_some() || path.is_empty() {
            return Ok(());
        }
        let place = self.system.path(&path);
        let read = crate::tree::read_entry(&place)?;
        match &read.kind {
            Kind::Directory => {
                for child in names(&place)? {
                    self.ahead.push(join(&path, &child));
                }
            }
            Kind::Symlink(target) => self.ahead.push(target_of(&path, target)),
            // Libraries come when they are missing from the base; what it has it has with theirs.
            Kind::File(content) if self.base.get(&path).is_none() => {
                let program = Program::read(content)?;
                self.require(&path, &program)?;
            }
            _ => {}
        }
        self.tree.insert(&path, read)
    }

    fn require(&mut self, path: &[u8], program: &Program) -> Result<(), Error> {
        if let Some(interpreter) = &program.interpreter {
            let interpreter = interpreter.trim_start_matches('/');
            if self.base.resolve(interpreter).is_none() {
                self.ahead.push(interpreter.as_bytes().to_vec());
            }
        }
        for library in &program.libraries {
            let mut candidates = program.candidates(path, library);
            if candidates.any(|path| self.base.resolve(path).is_some()) {
                continue;
            }
            let mut candidates = program.candidates(path, library);
            let found = candidates.find(|path| self.system.metadata(path).is_some());
            let found = found.ok_or_else(|| {
                let of = String::from_utf8_lossy(path).into_owned();
                self.system
                    .lacks(format!("library {library}, which /{of} needs"))
            })?;
            self.ahead.push(found);
        }
        Ok(())
    }

    /// The same place with the system's links in the directory part followed, without leaving it.
    fn real(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let mut reached = Vec::new();
        let mut names: Vec<Vec<u8>> = split(path);
        let mut links = 0;
        while let Some(name) = names.pop() {
            if name == b".." {
                reached.truncate(parent(&reached).len());
                continue;
            }
            let next = join(&reached, &name);
            let metadata = self.system.metadata(&next);
            if names.is_empty() || !metadata.is_some_and(|metadata| metadata.is_symlink()) {
                reached = next;
                continue;
            }
            links += 1;
            if links > 40 {
                return Err(Error::entry(path, "leads through too many symbolic links"));
            }
            let place = self.system.path(&next);
            let target = fs::read_link(&place).map_err(|source| Error::Read {
                path: place,
                source,
            })?;
            let target = std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()).to_vec();
            if target.starts_with(b"/") {
                reached.clear();
            }
            names.extend(split(&target));
        }
        Ok(reached)
    }
}

/// The names in a path, last first.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.rsplit(|&byte| byte == b'/');
    names
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

fn target_of(link: &[u8], target: &[u8]) -> Vec<u8> {
    match target.strip_prefix(b"/") {
        Some(absolute) => absolute.to_vec(),
        None => join(parent(link), target),
    }
}

fn names(place: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let cannot = |source| Error::Read {
        path: place.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for item in fs::read_dir(place).map_err(cannot)? {
        let name = item.map_err(cannot)?.file_name();
        names.push(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str()).to_vec());
    }
    Ok(names)
}

/// The kernel version and name of the module at `path`, if it is one.
pub(crate) fn module_of(path: &[u8]) -> Option<(String, String)> {
    let path = str::from_utf8(path).ok()?;
    let (version, rest) = path.strip_prefix("usr/lib/modules/")?.split_once('/')?;
    let module = crate::initrd::module::name(rest)?;
    Some((version.to_owned(), module))
}
