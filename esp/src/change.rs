//! A change of the ESP as a value: shown by a dry run, or applied.
//!
//! The steps of a change are sorted so that whatever can be booted finds what it needs: a UKI comes
//! behind its companions, the boot entry behind the UKI; what goes, goes the other way round.

use std::fmt;

use serde::Serialize;

use crate::companion::{count, size};
use crate::digest::Content;
use crate::esp::{components, join, parent};
use crate::history::{self, History};
use crate::journal::{Ledger, Step};
use crate::{Error, Esp, Kind};

/// What happens to one file. In the order of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// It is not there and will be.
    Add,
    /// It is there with other content.
    Replace,
    /// It is there and will not be.
    Remove,
    /// It is there with this content already.
    Keep,
    /// It was to be removed and is not there.
    Absent,
}

/// What happens to one file.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// From the root of the ESP, without a leading slash.
    pub path: String,
    /// What the stub takes the file for; `None` for a UKI or a boot entry.
    pub kind: Option<Kind>,
    /// Its size before, in bytes.
    pub before: Option<u64>,
    /// Its size afterwards, in bytes.
    pub after: Option<u64>,
    /// What it held before.
    #[serde(skip)]
    was: Option<Content>,
    #[serde(skip)]
    content: Vec<u8>,
}

impl Change {
    pub(crate) fn add(path: String, content: Vec<u8>) -> Self {
        let after = Some(size(&content));
        Self::new(Action::Add, path, None, after, content)
    }

    pub(crate) fn replace(path: String, was: Content, content: Vec<u8>) -> Self {
        let after = Some(size(&content));
        Self::new(Action::Replace, path, Some(was), after, content)
    }

    pub(crate) fn remove(path: String, was: Content) -> Self {
        Self::new(Action::Remove, path, Some(was), None, Vec::new())
    }

    pub(crate) fn keep(path: String, was: Content) -> Self {
        let after = Some(was.size);
        Self::new(Action::Keep, path, Some(was), after, Vec::new())
    }

    pub(crate) fn absent(path: String) -> Self {
        Self::new(Action::Absent, path, None, None, Vec::new())
    }

    fn new(
        action: Action,
        path: String,
        was: Option<Content>,
        after: Option<u64>,
        content: Vec<u8>,
    ) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        Self {
            action,
            kind: Kind::taken_by_stub(name.as_ref()).ok(),
            path,
            before: was.as_ref().map(|was| was.size),
            after,
            was,
            content,
        }
    }

    /// The undoing of a step.
    pub(crate) fn undoing(step: &Step) -> Self {
        let (action, before, after) = match (&step.before, &step.after) {
            (None, after) => (Action::Remove, after, &None),
            (before, None) => (Action::Add, &None, before),
            (before, after) => (Action::Replace, after, before),
        };
        let after = after.as_ref().map(|content| content.size);
        Self::new(action, step.path.clone(), before.clone(), after, Vec::new())
    }

    /// What it will hold.
    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    /// What it held when the change was planned.
    pub(crate) fn was(&self) -> Option<&Content> {
        self.was.as_ref()
    }

    pub(crate) fn step(&self) -> Option<Step> {
        let writes = matches!(self.action, Action::Add | Action::Replace);
        (writes || self.action == Action::Remove).then(|| Step {
            path: self.path.clone(),
            before: self.was.clone(),
            after: writes.then(|| Content::of(&self.content)),
        })
    }

    /// Its place in the whole change.
    fn order(&self) -> (u8, u8, Action, &str) {
        let rank = rank(&self.path);
        match self.action {
            Action::Add | Action::Replace => (0, rank, self.action, &self.path),
            Action::Remove => (1, u8::MAX - rank, self.action, &self.path),
            _ => (2, 0, self.action, &self.path),
        }
    }
}

/// What leans on what: a file needs those of lower rank.
pub(crate) fn rank(path: &str) -> u8 {
    let path = path.to_ascii_lowercase();
    if path == "loader/loader.conf" {
        3
    } else if path.starts_with("loader/entries/") {
        2
    } else if path.ends_with(".efi") && !path.ends_with(".addon.efi") {
        1
    } else {
        0
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change({self})")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match (self.action, self.before, self.after) {
            (Action::Add, _, Some(after)) => write!(f, "add      {path} ({after} bytes)"),
            (Action::Replace, Some(before), Some(after)) => {
                write!(f, "replace  {path} ({before} bytes, now {after})")
            }
            (Action::Remove, Some(before), _) => write!(f, "remove   {path} ({before} bytes)"),
            (Action::Keep, Some(before), _) => write!(f, "keep     {path} ({before} bytes)"),
            _ => write!(f, "absent   {path}"),
        }
    }
}

/// The room on the ESP around a change, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Room {
    /// Free before.
    pub free: u64,
    /// Free when everything new is written and nothing old is gone; `None` if it does not fit.
    pub worst: Option<u64>,
    /// Free afterwards, with what `undo` needs still there.
    pub after: u64,
    /// What a change leaves free at its worst moment.
    pub keep_free: u64,
}

impl fmt::Display for Room {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worst = self.worst.unwrap_or(0);
        write!(
            f,
            "free     {} bytes, {worst} at the worst moment, {} afterwards",
            self.free, self.after
        )
    }
}

/// A set of changes that belong together, in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changes {
    changes: Vec<Change>,
    room: Room,
    /// What ukikit has placed, afterwards.
    #[serde(skip)]
    owned: Ledger,
    /// Whether that differs from what it was.
    #[serde(skip)]
    owns_otherwise: bool,
    /// The newest change there was when this one was planned.
    #[serde(skip)]
    newest: u32,
}

impl Changes {
    pub(crate) fn new(
        esp: &Esp,
        history: &History,
        mut changes: Vec<Change>,
        owned: Ledger,
    ) -> Result<Self, Error> {
        changes.sort_by(|a, b| a.order().cmp(&b.order()));
        Ok(Self {
            room: room(esp, &changes)?,
            owns_otherwise: owned != *history.owned(),
            newest: history.newest(),
            changes,
            owned,
        })
    }

    /// What happens to each file.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        let still = |change: &Change| matches!(change.action, Action::Keep | Action::Absent);
        !self.owns_otherwise && self.iter().all(still)
    }

    /// The room it needs.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Refuses a change for which there is not enough room.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`]
    pub fn check_room(&self, esp: &Esp) -> Result<(), Error> {
        let Room {
            free,
            worst,
            keep_free,
            ..
        } = self.room;
        let grows = self.iter().any(|change| change.after > change.before);
        if !grows || worst.is_some_and(|worst| worst >= keep_free) {
            return Ok(());
        }
        Err(Error::NoRoom {
            esp: esp.root().into(),
            free,
            keep_free,
        })
    }

    pub(crate) fn owned(&self) -> &Ledger {
        &self.owned
    }

    pub(crate) fn newest(&self) -> u32 {
        self.newest
    }
}

impl fmt::Display for Changes {
    /// One line for each file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

/// Every new file, the copy of every replaced one, the journal and new directories come before anything goes.
fn room(esp: &Esp, changes: &[Change]) -> Result<Room, Error> {
    let space = esp.space()?;
    let journal = space.taken(JOURNAL);
    let own = [join(history::STATE, "1/journal")];
    let paths = changes.iter().map(|change| &change.path).chain(&own);
    let missing = missing_directories(esp, paths.map(String::as_str))?;
    let directories = space.cluster * count(missing.len());
    let written: u64 = (changes.iter().filter(|change| change.step().is_some()))
        .map(|change| space.taken(size(change.content())))
        .sum();
    let copied: u64 = (changes.iter())
        .filter(|change| change.action == Action::Replace)
        .map(|change| space.taken(change.before.unwrap_or(0)))
        .sum();
    let stays = journal + directories + written;
    Ok(Room {
        free: space.free,
        worst: space.free.checked_sub(stays + copied),
        after: space.free.saturating_sub(stays),
        keep_free: esp.room_to_keep(),
    })
}

/// In bytes: room enough for the journal of some dozens of files.
const JOURNAL: u64 = 16 * 1024;

/// The directories on the way to these files that are not there, each behind the one it lies in.
pub(crate) fn missing_directories<'a>(
    esp: &Esp,
    paths: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for path in paths {
        let mut at = String::new();
        for name in components(parent(path)) {
            at = join(&at, name);
            if !missing.contains(&at) && esp.node(&at)?.is_none() {
                missing.push(at.clone());
            }
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
