//! Kernel modules: what `modules.dep`, `modules.softdep` and the modules themselves say they need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::System;
use crate::adapt::drives;
use crate::initrd::module::{self, Module};
use crate::initrd::{Facts, ModuleIndex};
use crate::{Error, Finding, Kind, Tree};

use super::Wishes;

/// What is read of an index when modules are loaded, beside the files `modules.*.bin`. The texts beside are for people
/// and for depmod: a fifth of it all, packed.
const READ: [&str; 3] = ["modules.devname", "modules.softdep", "modules.weakdep"];
/// Bytes of `modules.dep` and its like; the largest kernels' have two million.
const LONGEST_LIST: u64 = 16 << 20;

impl System {
    pub(super) fn collect_drivers(
        &self,
        wishes: &Wishes,
        base: &Tree,
        tree: &mut Tree,
    ) -> Result<(), Error> {
        if wishes.drivers.is_empty() && wishes.optional_drivers.is_empty() {
            return Ok(());
        }
        let Some(kernel) = &wishes.kernel else {
            return Err(Error::value(
                "the base does not tell for which kernel the drivers are",
            ));
        };
        let facts = Facts::of(base)?;
        let list = Modules::read(self, kernel)?;
        let required = wishes.drivers.iter().map(|name| (name, true));
        let optional = wishes.optional_drivers.iter().map(|name| (name, false));
        let mut paths = BTreeSet::new();
        for (name, required) in required.chain(optional) {
            let known = list.add(name, &mut paths);
            if required && !known {
                return Err(self.lacks(format!("module {name} for the kernel {kernel}")));
            }
        }
        let mut missing = paths
            .into_iter()
            .filter(|path| module::name(path).is_some_and(|name| !drives(&facts, kernel, &name)));
        let Some(first) = missing.next() else {
            return Ok(());
        };
        for path in std::iter::once(first).chain(missing) {
            let path = format!("usr/lib/modules/{kernel}/{path}");
            self.take_driver(&path, tree)?;
        }
        if !has_complete_index(&facts, kernel) {
            self.take_index(kernel, tree)?;
        }
        Ok(())
    }

    fn take_driver(&self, path: &str, tree: &mut Tree) -> Result<(), Error> {
        let entry = crate::tree::read_entry(&self.path(path.as_bytes()))?;
        if let Kind::File(content) = &entry.kind {
            let names = Module::read(content)?.information("firmware");
            self.take_firmware(&names, tree)?;
        }
        tree.insert(path, entry)
    }

    /// Replaces the index of each kernel for which `tree` has modules that `base` has not by the complete one: an
    /// initrd's lists its own. Returns the kernels that this system has not.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] for what cannot be read.
    pub fn complete_indexes(&self, tree: &mut Tree, base: &Tree) -> Result<Vec<String>, Error> {
        let facts = Facts::of(base)?;
        let modules = tree.iter().filter_map(|(path, _)| super::module_of(path));
        let more = modules.filter(|(version, name)| !drives(&facts, version, name));
        let kernels: BTreeSet<String> = more.map(|(version, _)| version).collect();
        let mut unknown = Vec::new();
        for kernel in kernels {
            if has_complete_index(&facts, &kernel) {
                continue;
            }
            if self.list(&kernel, "modules.dep").is_none() {
                unknown.push(kernel);
                continue;
            }
            let prefix = format!("usr/lib/modules/{kernel}/modules.");
            let paths = tree.iter().map(|(path, _)| path.to_vec());
            let old: Vec<_> = paths
                .filter(|path| path.starts_with(prefix.as_bytes()))
                .collect();
            for path in old {
                tree.remove(path);
            }
            self.take_index(&kernel, tree)?;
        }
        Ok(unknown)
    }

    fn take_index(&self, kernel: &str, tree: &mut Tree) -> Result<(), Error> {
        let directory = format!("usr/lib/modules/{kernel}");
        for name in super::names(&self.path(directory.as_bytes()))? {
            let binary = name.starts_with(b"modules.") && name.ends_with(b".bin");
            if binary || READ.iter().any(|read| read.as_bytes() == name) {
                let path = [directory.as_bytes(), b"/", &name].concat();
                tree.insert(&path, crate::tree::read_entry(&self.path(&path))?)?;
            }
        }
        Ok(())
    }

    fn list(&self, kernel: &str, name: &str) -> Option<String> {
        let path = self.path(format!("usr/lib/modules/{kernel}/{name}").as_bytes());
        let size = fs::metadata(&path).ok()?.len();
        (size <= LONGEST_LIST).then(|| fs::read_to_string(path).ok())?
    }
}

fn has_complete_index(facts: &Facts, kernel: &str) -> bool {
    let kernel = facts.kernel(Some(kernel));
    kernel.is_some_and(|kernel| kernel.index == ModuleIndex::Complete)
}

/// The modules of a kernel.
struct Modules {
    /// By name: its path and those of all it depends on, below the kernel's directory.
    paths: BTreeMap<String, (String, Vec<String>)>,
    built_in: BTreeSet<String>,
    /// By name: modules to load with it, if there are any.
    soft: BTreeMap<String, Vec<String>>,
}

impl Modules {
    fn read(system: &System, kernel: &str) -> Result<Self, Error> {
        let dependencies = system.list(kernel, "modules.dep");
        let dependencies =
            dependencies.ok_or_else(|| system.lacks(format!("modules for the kernel {kernel}")))?;
        let built_in = system.list(kernel, "modules.builtin").unwrap_or_default();
        let soft = system.list(kernel, "modules.softdep").unwrap_or_default();
        let line = |line: &str| {
            let (path, needed) = line.split_once(':')?;
            let needed = needed.split_ascii_whitespace().map(ToOwned::to_owned);
            Some((module::name(path)?, (path.to_owned(), needed.collect())))
        };
        Ok(Self {
            paths: dependencies.lines().filter_map(line).collect(),
            built_in: built_in.lines().filter_map(module::name).collect(),
            soft: soft.lines().filter_map(soft_line).collect(),
        })
    }

    /// Adds the paths that `driver` takes; whether the kernel has it at all.
    fn add(&self, driver: &str, paths: &mut BTreeSet<String>) -> bool {
        let driver = driver.replace('-', "_");
        let Some((path, needed)) = self.paths.get(&driver) else {
            return self.built_in.contains(&driver);
        };
        if paths.insert(path.clone()) {
            let needed = needed.iter().filter_map(|path| module::name(path));
            let soft = self.soft.get(&driver).into_iter().flatten().cloned();
            for other in needed.chain(soft) {
                self.add(&other, paths);
            }
        }
        true
    }
}

/// `softdep NAME pre: A B post: C`
fn soft_line(line: &str) -> Option<(String, Vec<String>)> {
    let mut words = line.strip_prefix("softdep ")?.split_ascii_whitespace();
    let name = words.next()?.replace('-', "_");
    let others = words.filter(|word| !word.ends_with(':'));
    Some((name, others.map(|word| word.replace('-', "_")).collect()))
}

/// Each module of `tree` whose dependencies neither `all`, the tree over its base, nor the kernel has.
pub(crate) fn check(tree: &Tree, all: &Tree) -> Result<Vec<Finding>, Error> {
    let facts = Facts::of(all)?;
    let mut findings = Vec::new();
    for (path, entry) in tree.iter() {
        let (Some((version, _)), Kind::File(content)) = (super::module_of(path), &entry.kind)
        else {
            continue;
        };
        let needed = Module::read(content)?.information("depends");
        let needed = needed
            .iter()
            .flat_map(|list| list.split(','))
            .filter(|name| !name.is_empty());
        for name in needed.filter(|name| !drives(&facts, &version, name)) {
            let place = String::from_utf8_lossy(path).into_owned();
            let what = format!(
                "needs the module {name}, which is neither in the base nor among these files"
            );
            findings.push(Finding::new(crate::Check::Needs, place, what));
        }
    }
    Ok(findings)
}
