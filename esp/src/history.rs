//! The changes that were made, as they lie on the ESP: what can be undone, what was interrupted, and who owns what.
//!
//! ```text
//! loader/ukikit/N/            change number N; neither the stub nor a boot loader looks in here
//!     new0 new1 …             content on its way to its path, by step
//!     old0 old1 …             content that was there before, kept for the way back
//!     journal                 whole: the change is decided;  missing or torn: it never began
//!     done                    empty; it is made
//!     back                    empty; it is being taken back
//! ```
//!
//! The journal of the newest change tells what ukikit has placed. Marks are empty files, so that on FAT
//! no cluster ever has two names on their account.

use std::collections::BTreeMap;

use crate::esp::{join, parent};
use crate::journal::{Journal, Ledger, Owned};
use crate::target::without_entry_counter;
use crate::volume::{Node, NodeKind};
use crate::{Error, Esp};

/// Where the changes lie.
pub(crate) const STATE: &str = "loader/ukikit";

/// How many of them stay, to be undone one after the other.
const KEPT: usize = 8;

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing outside its own directory has happened.
    Draft,
    /// Decided, perhaps half made.
    Redo,
    /// Made.
    Done,
    /// Being taken back.
    Back,
}

/// A change that was begun.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) phase: Phase,
    /// Empty for a draft.
    pub(crate) journal: Journal,
    files: Vec<Node>,
}

impl Recorded {
    /// What the old content takes that it keeps for the way back, in bytes.
    fn kept(&self, cluster: impl Fn(u64) -> u64) -> u64 {
        let old = self
            .files
            .iter()
            .filter(|file| file.name.starts_with("old"));
        old.map(|file| cluster(file.size)).sum()
    }
}

/// All changes, by number.
#[derive(Debug)]
pub(crate) struct History {
    /// The directory they lie in, as it is spelt on the ESP.
    at: String,
    changes: BTreeMap<u32, Recorded>,
    owned: Ledger,
}

impl History {
    pub(crate) fn read(esp: &Esp) -> Result<Self, Error> {
        let at = esp.spelt(STATE)?;
        let mut changes = BTreeMap::new();
        if esp.find(STATE)?.is_some() {
            for node in esp.nodes(&at)? {
                let directory = node.kind == NodeKind::Directory;
                if let (true, Ok(number)) = (directory, node.name.parse()) {
                    changes.insert(number, recorded(esp, &join(&at, &node.name))?);
                }
            }
        }
        let settled = |(_, change): (&u32, &Recorded)| match change.phase {
            Phase::Redo | Phase::Done => Some(change.journal.owned.clone()),
            Phase::Draft | Phase::Back => None,
        };
        let owned = changes.iter().rev().find_map(settled).unwrap_or_default();
        Ok(Self { at, changes, owned })
    }

    /// What ukikit has placed. Of an interrupted change, what it will have.
    pub(crate) fn owned(&self) -> &Ledger {
        &self.owned
    }

    /// The number of the newest change, 0 if there is none. Drafts do not count.
    pub(crate) fn newest(&self) -> u32 {
        let begun = |(_, change): &(&u32, &Recorded)| change.phase != Phase::Draft;
        let newest = self.changes.iter().rev().find(begun);
        newest.map_or(0, |(number, _)| *number)
    }

    /// The newest change that was made.
    pub(crate) fn last_done(&self) -> Option<(u32, &Recorded)> {
        let mut done = self
            .changes
            .iter()
            .rev()
            .map(|(number, change)| (*number, change));
        done.find(|(_, change)| change.phase == Phase::Done)
    }

    /// What ukikit had placed before this change, the newest that was made.
    pub(crate) fn owned_before(&self, number: u32, change: &Recorded) -> Ledger {
        let older = self.changes.range(..number).rev();
        let mut done = older.filter(|(_, change)| change.phase == Phase::Done);
        if let Some((_, before)) = done.next() {
            return before.journal.owned.clone();
        }
        // It was the first, or those before it were given up: what it did not touch is still placed.
        let mut owned = self.owned.clone();
        for step in &change.journal.steps {
            match (&step.before, owned.get_mut(&step.path)) {
                (Some(before), Some(placed)) if number > 1 => placed.content = before.clone(),
                _ => drop(owned.remove(&step.path)),
            }
        }
        owned
    }

    /// Those that were interrupted, the newest first.
    pub(crate) fn interrupted(&self) -> impl Iterator<Item = (u32, &Recorded)> {
        let all = self
            .changes
            .iter()
            .rev()
            .map(|(number, change)| (*number, change));
        all.filter(|(_, change)| change.phase != Phase::Done)
    }

    /// Those that are older than what is kept.
    pub(crate) fn too_old(&self) -> impl Iterator<Item = u32> {
        self.changes.keys().rev().skip(KEPT).copied()
    }

    /// All numbers, the newest first.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.changes.keys().rev().copied()
    }

    /// The directory of a change.
    pub(crate) fn directory(&self, number: u32) -> String {
        join(&self.at, &number.to_string())
    }

    /// What could be had by giving up the way back, in bytes.
    pub(crate) fn kept(&self, cluster: impl Fn(u64) -> u64 + Copy) -> u64 {
        self.changes
            .values()
            .map(|change| change.kept(cluster))
            .sum()
    }
}

fn recorded(esp: &Esp, at: &str) -> Result<Recorded, Error> {
    let files = esp.nodes(at)?;
    let has = |name: &str| files.iter().any(|file| file.name == name);
    let journal = match files.iter().find(|file| file.name == "journal") {
        Some(file) if file.size <= LARGEST_JOURNAL => {
            Journal::parse(&esp.read(&join(at, "journal"))?)
        }
        _ => None,
    };
    let phase = match journal {
        None => Phase::Draft,
        Some(_) if has("back") => Phase::Back,
        Some(_) if has("done") => Phase::Done,
        Some(_) => Phase::Redo,
    };
    Ok(Recorded {
        phase,
        journal: journal.unwrap_or_default(),
        files,
    })
}

/// In bytes; thousands of files.
const LARGEST_JOURNAL: u64 = 4 * 1024 * 1024;

/// Who has put a file on the ESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Owner {
    /// ukikit, and it is as it was put.
    Ukikit,
    /// ukikit, and something else has changed it since.
    Changed,
    /// Something else.
    Other,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ukikit => "ukikit",
            Self::Changed => "changed",
            Self::Other => "other",
        })
    }
}

/// Who has put the file there, which is looked at if ukikit has one of that path.
pub(crate) fn owner(esp: &Esp, owned: &Ledger, path: &str) -> Result<Owner, Error> {
    let Some(Owned { content, .. }) = key_of(owned, path).and_then(|key| owned.get(key)) else {
        return Ok(Owner::Other);
    };
    let path = esp.as_counted(path)?;
    Ok(if esp.content(&path)?.as_ref() == Some(content) {
        Owner::Ukikit
    } else {
        Owner::Changed
    })
}

/// The path under which a file is in the ledger: the boot loader counts in the names of entries.
pub(crate) fn key_of<'a>(owned: &'a Ledger, path: &str) -> Option<&'a str> {
    if let Some((key, _)) = owned.get_key_value(path) {
        return Some(key);
    }
    let mut keys = owned.keys().filter(|_| is_counted(path));
    let name = without_entry_counter(path);
    let key = keys.find(|key| without_entry_counter(key) == name)?;
    is_counted(key).then_some(key)
}

/// Whether it is a boot entry.
pub(crate) fn is_counted(path: &str) -> bool {
    parent(path).eq_ignore_ascii_case("loader/entries")
}

/// Removes what a change has left, the journal first: from then on it is a draft, to be removed.
pub(crate) fn discard(esp: &Esp, at: &str) -> Result<(), Error> {
    let volume = esp.volume();
    let mut names: Vec<String> = (esp.nodes(at)?.into_iter())
        .map(|node| node.name)
        .filter(|name| is_ours(name))
        .collect();
    names.sort_by_key(|name| name != "journal");
    for name in names {
        let path = join(at, &name);
        volume
            .remove(&path)
            .map_err(|source| esp.cannot_remove(&path, source))?;
        if name == "journal" {
            sync(esp, at)?;
        }
    }
    remove_directory(esp, at)?;
    discard_parents(esp, at)
}

/// The directory of all changes goes with the last one, and the one it lies in if nothing else is in it.
pub(crate) fn discard_parents(esp: &Esp, at: &str) -> Result<(), Error> {
    let state = parent(at);
    for directory in [state, parent(state)] {
        if esp.node(directory)?.is_none() {
            continue;
        }
        if !esp.nodes(directory)?.is_empty() {
            return Ok(());
        }
        remove_directory(esp, directory)?;
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let by_step = name.strip_prefix("new").or(name.strip_prefix("old"));
    by_step.is_some_and(|step| step.parse::<usize>().is_ok())
        || ["journal", "done", "back"].contains(&name)
}

pub(crate) fn remove_directory(esp: &Esp, path: &str) -> Result<(), Error> {
    match esp.volume().remove_directory(path) {
        Ok(()) => sync(esp, parent(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(esp.cannot_remove(path, source)),
    }
}

pub(crate) fn sync(esp: &Esp, directory: &str) -> Result<(), Error> {
    match esp.volume().sync(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| esp.cannot_write(directory, source)),
    }
}
