//! Firmware: what modules name, and where the kernel looks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::System;
use crate::initrd::module::Module;
use crate::{Error, Kind, Tree};

/// How it may be packed, in the order the kernel tries.
const PACKED: [&str; 3] = ["", ".zst", ".xz"];

impl System {
    /// What of `names` the system has. What it has not is for devices that are not there: dracut too goes on, and
    /// [`crate::needs::absent_firmware`] tells.
    pub(super) fn take_firmware(&self, names: &[String], tree: &mut Tree) -> Result<(), Error> {
        for name in names.iter().filter(|name| is_inside(name)) {
            for path in places(name) {
                if let Ok(real) = fs::canonicalize(self.path(path.as_bytes())) {
                    tree.insert(&path, crate::tree::read_entry(&real)?)?;
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The firmware that each module of a tree names.
pub(crate) fn named(tree: &Tree) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let mut named = BTreeMap::new();
    for (path, entry) in tree.iter() {
        let (Some((_, module)), Kind::File(content)) = (super::module_of(path), &entry.kind) else {
            continue;
        };
        let names: BTreeSet<String> = Module::read(content)?
            .information("firmware")
            .into_iter()
            .collect();
        if !names.is_empty() {
            named.insert(module, names);
        }
    }
    Ok(named)
}

/// Where the kernel looks for it.
pub(crate) fn places(name: &str) -> impl Iterator<Item = String> {
    PACKED
        .into_iter()
        .map(move |packed| format!("usr/lib/firmware/{name}{packed}"))
}

fn is_inside(name: &str) -> bool {
    !name.split('/').any(|part| matches!(part, "" | "." | ".."))
}
