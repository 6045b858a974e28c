//! Making a change, finishing one that was interrupted, and taking one back.
//!
//! ```text
//! new content aside, old content copied ─ flush ─ read back ─▶ journal ─ flush      from here on it is decided
//!   ─▶ rename into place, by rank ─ flush ─▶ remove, by rank ─ flush ─▶ read back ─▶ `done`
//! ```
//!
//! In front of the journal nothing outside the directory of the change has happened. Behind it every
//! step can be made again, by whoever comes next, until the mark says that it is done. docs/esp.md has
//! what a power cut leaves at each point.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use crate::change::{Action, Change, Changes, missing_directories, rank};
use crate::digest::Content;
use crate::esp::{join, parent};
use crate::history::{self, History, Phase, Recorded, discard, sync};
use crate::journal::{Journal, Step};
use crate::trial::is_set;
use crate::volume::NodeKind;
use crate::{Error, Esp, Kind};

/// What became of a change that had been interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovered {
    /// It had not begun; what was written aside is gone.
    Discarded,
    /// It was decided, and now it is made.
    Finished,
    /// It was being taken back, and now it is.
    TakenBack,
}

impl std::fmt::Display for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Discarded => "an interrupted change had not begun; what was left of it is gone",
            Self::Finished => "an interrupted change is finished",
            Self::TakenBack => "an interrupted change is taken back",
        })
    }
}

impl Esp {
    /// Finishes or takes back what was interrupted, as its journal says. Every change does this first.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another process is at work, [`Error::Lost`], and what the file system says.
    pub fn recover(&self) -> Result<Vec<Recovered>, Error> {
        let _lock = self.lock()?;
        self.settle_interrupted()
    }

    fn settle_interrupted(&self) -> Result<Vec<Recovered>, Error> {
        let history = History::read(self)?;
        if history.numbers().next().is_none() {
            // A change can be interrupted before it has a directory, or behind the end of it.
            history::discard_parents(self, &history.directory(1))?;
        }
        let interrupted = history.interrupted();
        interrupted
            .map(|(number, change)| settle(self, &history.directory(number), change))
            .collect()
    }

    /// Refuses to plan on top of what is half made.
    pub(crate) fn settled_history(&self) -> Result<History, Error> {
        let history = History::read(self)?;
        let half = |(_, change): (u32, &Recorded)| change.phase != Phase::Draft;
        if history.interrupted().any(half) {
            return Err(Error::Interrupted {
                esp: self.root().into(),
            });
        }
        Ok(history)
    }

    fn holds(&self, path: &str, content: &Content) -> Result<bool, Error> {
        Ok(self.content(path)?.as_ref() == Some(content))
    }
}

fn settle(esp: &Esp, at: &str, change: &Recorded) -> Result<Recovered, Error> {
    let work = Work {
        esp,
        at,
        journal: &change.journal,
    };
    match change.phase {
        Phase::Draft => discard(esp, at).map(|()| Recovered::Discarded),
        Phase::Back => work.back().map(|()| Recovered::TakenBack),
        Phase::Redo | Phase::Done => match work.make() {
            // A power cut can take both names of a file in the middle of its rename. What it was to replace
            // is still there, and so is the copy of everything that was replaced before it.
            Err(Error::Lost { .. }) => work.take_back().map(|()| Recovered::TakenBack),
            made => made.map(|()| Recovered::Finished),
        },
    }
}

impl Changes {
    /// Makes the changes, all of them or none.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another process is at work, [`Error::Outdated`] if the ESP is no longer
    /// what it was, [`Error::NoRoom`], and what the file system says: then the ESP is as it was before.
    /// Only if even that cannot be had [`Error::Unfinished`], and the next change does what is left.
    pub fn apply(&self, esp: &Esp) -> Result<(), Error> {
        let _lock = esp.lock()?;
        esp.settle_interrupted()?;
        if self.is_empty() {
            return Ok(());
        }
        let history = History::read(esp)?;
        self.refuse_if_outdated(esp, &history)?;
        self.check_room(esp)?;
        let at = history.directory(history.newest().saturating_add(1));
        let steps: Vec<Step> = self.iter().filter_map(Change::step).collect();
        let journal = Journal {
            made: missing_directories(esp, steps.iter().map(|step| &*step.path))?,
            steps,
            owned: self.owned().clone(),
        };
        let work = Work {
            esp,
            at: &at,
            journal: &journal,
        };
        if let Err(error) = self.decide(&work) {
            return Err(or_unfinished(error, work.discard_if_there()));
        }
        if let Err(error) = work.make() {
            return Err(or_unfinished(error, work.take_back()));
        }
        // It is made; what is too old to be kept can as well go the next time.
        let old: Vec<u32> = History::read(esp)?.too_old().collect();
        old.into_iter()
            .try_for_each(|number| discard(esp, &history.directory(number)))
    }

    fn refuse_if_outdated(&self, esp: &Esp, history: &History) -> Result<(), Error> {
        let outdated = || Error::Outdated {
            esp: esp.root().into(),
        };
        if history.newest() != self.newest() {
            return Err(outdated());
        }
        for change in self.iter() {
            if esp.content(&change.path)?.as_ref() != change.was() {
                return Err(outdated());
            }
        }
        Ok(())
    }

    /// Writes everything aside, then the journal.
    fn decide(&self, work: &Work<'_>) -> Result<(), Error> {
        let (esp, at) = (work.esp, work.at);
        let marker = join(at, "journal");
        for directory in missing_directories(esp, [&*marker].into_iter())? {
            make_directory(esp, &directory)?;
        }
        let real = self.iter().filter(|change| change.step().is_some());
        for (number, change) in real.enumerate() {
            if change.action != Action::Remove {
                let path = work.new_file(number);
                write(esp, &path, is_private(&change.path), change.content())?;
                read_back(esp, &path, &Content::of(change.content()))?;
            }
            if let (Action::Replace, Some(was)) = (change.action, change.was()) {
                let private = is_private(&change.path);
                copy(esp, &change.path, &work.old_file(number), was, private)?;
            }
        }
        sync(esp, at)?;
        write(esp, &marker, false, &*work.journal.to_bytes())?;
        sync(esp, at)
    }
}

/// What is said when something failed: the reason, if everything could be put back as it was.
fn or_unfinished(error: Error, put_back: Result<(), Error>) -> Error {
    match put_back {
        Ok(()) => error,
        Err(_) => Error::Unfinished {
            source: Box::new(error),
        },
    }
}

/// One change with a journal, and its directory.
struct Work<'a> {
    esp: &'a Esp,
    at: &'a str,
    journal: &'a Journal,
}

impl Work<'_> {
    fn new_file(&self, step: usize) -> String {
        format!("{}/new{step}", self.at)
    }

    fn old_file(&self, step: usize) -> String {
        format!("{}/old{step}", self.at)
    }

    /// Does what the journal says, from wherever it was left.
    fn make(&self) -> Result<(), Error> {
        for directory in &self.journal.made {
            make_directory(self.esp, directory)?;
        }
        let steps = || self.journal.steps.iter().enumerate();
        self.by_rank(steps(), |number, step| match (&step.before, &step.after) {
            (_, Some(after)) => self.moved(&self.new_file(number), &step.path, after),
            (Some(before), None) => self.taken_away(number, step, before),
            (None, None) => Ok(()),
        })?;
        for (_, step) in steps() {
            match &step.after {
                Some(after) => read_back(self.esp, &step.path, after)?,
                None => self.remove_if_empty(parent(&step.path))?,
            }
        }
        self.mark("done")?;
        self.remove_leftovers()
    }

    /// Makes the steps in their order, with everything of one rank on the medium before the next begins.
    fn by_rank<'b>(
        &self,
        steps: impl Iterator<Item = (usize, &'b Step)>,
        make: impl Fn(usize, &Step) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut touched = BTreeSet::new();
        let mut last = None;
        for (number, step) in steps {
            let order = (step.after.is_some(), rank(&step.path));
            if last.replace(order).is_some_and(|last| last != order) {
                self.flush(&mut touched)?;
            }
            make(number, step)?;
            touched.insert(parent(&step.path).to_owned());
        }
        self.flush(&mut touched)
    }

    /// Where names went to comes before where they came from.
    fn flush(&self, touched: &mut BTreeSet<String>) -> Result<(), Error> {
        for directory in std::mem::take(touched) {
            sync(self.esp, &directory)?;
        }
        sync(self.esp, self.at)
    }

    /// Sees to it that the content has the one path and no longer the other.
    fn moved(&self, from: &str, to: &str, content: &Content) -> Result<(), Error> {
        let there = self.esp.holds(to, content)?;
        match (self.esp.holds(from, content)?, there) {
            (true, true) => Err(Error::TwoNames {
                path: self.esp.shown(to),
                other: self.esp.shown(from),
            }),
            (true, false) => self.rename(from, to),
            // What was left of it is removed with the other leftovers.
            (false, true) => Ok(()),
            (false, false) => Err(Error::Lost {
                path: self.esp.shown(to),
            }),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let renamed = self.esp.volume().rename(from, to);
        renamed.map_err(|source| self.esp.cannot_write(to, source))
    }

    /// A file to be removed goes where it is kept. One that somebody else has put there meanwhile stays.
    fn taken_away(&self, number: usize, step: &Step, before: &Content) -> Result<(), Error> {
        if self.esp.holds(&step.path, before)? {
            self.moved(&step.path, &self.old_file(number), before)?;
            sync(self.esp, self.at)
        } else if self.is_empty_file(&step.path)? && before.size > 0 {
            self.remove(&step.path)
        } else {
            Ok(())
        }
    }

    /// What a repair of FAT leaves of a file that had a second name.
    fn is_empty_file(&self, path: &str) -> Result<bool, Error> {
        let node = self.esp.node(path)?;
        Ok(node.is_some_and(|node| node.kind == NodeKind::File && node.size == 0))
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        let removed = self.esp.volume().remove(path);
        removed.map_err(|source| self.esp.cannot_remove(path, source))
    }

    /// A directory of companions goes with the last of them.
    fn remove_if_empty(&self, directory: &str) -> Result<(), Error> {
        let exists = self.esp.node(directory)?.is_some();
        if exists && is_for_companions(directory) && self.esp.nodes(directory)?.is_empty() {
            return history::remove_directory(self.esp, directory);
        }
        Ok(())
    }

    fn mark(&self, name: &str) -> Result<(), Error> {
        let path = join(self.at, name);
        if self.esp.node(&path)?.is_none() {
            write(self.esp, &path, false, io::empty())?;
        }
        sync(self.esp, self.at)
    }

    fn remove_leftovers(&self) -> Result<(), Error> {
        for number in 0..self.journal.steps.len() {
            let path = self.new_file(number);
            if self.esp.node(&path)?.is_some() {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Turns round: from here on the change is taken back.
    fn take_back(&self) -> Result<(), Error> {
        self.mark("back")?;
        self.back()
    }

    /// Puts everything back, from wherever it was left, and forgets the change.
    fn back(&self) -> Result<(), Error> {
        let steps = self.journal.steps.iter().enumerate().rev();
        self.by_rank(steps, |number, step| match (&step.before, &step.after) {
            (Some(before), _) => self.restored(number, step, before),
            (None, Some(after)) => {
                let path = self.esp.as_counted(&step.path)?;
                if self.esp.holds(&path, after)? || self.is_empty_file(&path)? {
                    self.remove(&path)?;
                }
                Ok(())
            }
            (None, None) => Ok(()),
        })?;
        for directory in self.journal.made.iter().rev() {
            let there = self.esp.node(directory)?.is_some();
            if there && self.esp.nodes(directory)?.is_empty() {
                history::remove_directory(self.esp, directory)?;
            }
        }
        discard(self.esp, self.at)
    }

    /// The old content gets its path back. It is copied if there is room: its only name is not put at stake then.
    fn restored(&self, number: usize, step: &Step, before: &Content) -> Result<(), Error> {
        let esp = self.esp;
        if esp.holds(&step.path, before)? || self.is_taken(step)? {
            return Ok(());
        }
        let below = join(parent(&step.path), "x");
        for missing in missing_directories(esp, [&*below].into_iter())? {
            make_directory(esp, &missing)?;
        }
        let (old, new) = (self.old_file(number), self.new_file(number));
        let space = esp.space()?;
        if space.taken(before.size) > space.free || !esp.holds(&old, before)? {
            return self.moved(&old, &step.path, before);
        }
        if esp.node(&new)?.is_some() {
            self.remove(&new)?;
        }
        copy(esp, &old, &new, before, is_private(&step.path))?;
        sync(esp, self.at)?;
        self.rename(&new, &step.path)?;
        sync(esp, parent(&step.path))
    }

    /// Whether somebody else has put a file where one was removed.
    fn is_taken(&self, step: &Step) -> Result<bool, Error> {
        let there = self.esp.node(&step.path)?;
        Ok(step.after.is_none() && there.is_some_and(|node| node.size > 0))
    }

    fn discard_if_there(&self) -> Result<(), Error> {
        let there = self.esp.node(self.at)?.is_some();
        if there {
            return discard(self.esp, self.at);
        }
        history::discard_parents(self.esp, self.at)
    }
}

fn is_for_companions(directory: &str) -> bool {
    let directory = directory.to_ascii_lowercase();
    let global = [Kind::Credential, Kind::Extension, Kind::Addon].map(Kind::global_directory);
    directory.ends_with(".extra.d") || is_set(&directory) || global.contains(&&*directory)
}

fn make_directory(esp: &Esp, path: &str) -> Result<(), Error> {
    match esp.volume().make_directory(path) {
        Ok(()) => sync(esp, parent(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(esp.cannot_write(path, source)),
    }
}

/// Writes a new file and flushes it.
fn write(esp: &Esp, path: &str, private: bool, mut content: impl Read) -> Result<(), Error> {
    let mut write = || -> io::Result<()> {
        let mut sink = esp.volume().create(path, private)?;
        let mut buffer = [0; 64 * 1024];
        loop {
            let count = content.read(&mut buffer)?;
            let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
                break;
            };
            sink.write_all(read)?;
        }
        sink.sync()
    };
    write().map_err(|source| esp.cannot_write(path, source))
}

fn copy(esp: &Esp, from: &str, to: &str, content: &Content, private: bool) -> Result<(), Error> {
    let file = esp.volume().open(from);
    let file = file.map_err(|source| esp.cannot_read(from, source))?;
    write(esp, to, private, file)?;
    read_back(esp, to, content)
}

/// A credential is for root alone, on file systems that can tell.
fn is_private(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    Kind::taken_by_stub(name.as_ref()) == Ok(Kind::Credential)
}

fn read_back(esp: &Esp, path: &str, expected: &Content) -> Result<(), Error> {
    if esp.holds(path, expected)? {
        return Ok(());
    }
    Err(Error::ReadBack {
        path: esp.shown(path),
    })
}

/// The last change, to be undone.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Undo {
    #[serde(skip)]
    number: u32,
    changes: Vec<Change>,
}

impl Esp {
    /// What undoing the last change would do: each file gets back the bytes it had before. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`Error::NothingToUndo`]; [`Error::ChangedSince`] if something else has changed a file in between;
    /// [`Error::UndoGone`] if the old bytes were given up.
    pub fn undo(&self) -> Result<Undo, Error> {
        let history = self.settled_history()?;
        let nothing = || Error::NothingToUndo {
            esp: self.root().into(),
        };
        let (number, change) = history.last_done().ok_or_else(nothing)?;
        let steps = &change.journal.steps;
        for (step, position) in steps.iter().zip(0_usize..) {
            if self.content(&self.as_counted(&step.path)?)? != step.after {
                return Err(Error::ChangedSince {
                    path: self.shown(&step.path),
                });
            }
            let old = format!("{}/old{position}", history.directory(number));
            if step.before.is_some() && self.node(&old)?.is_none() {
                return Err(Error::UndoGone {
                    path: self.shown(&step.path),
                });
            }
        }
        let changes = steps.iter().rev().map(Change::undoing).collect();
        Ok(Undo { number, changes })
    }

    /// What undoing the last change would do as a change of its own, which can be undone in turn: also over what
    /// something else has changed in between. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`Error::NothingToUndo`], [`Error::UndoGone`], and what the file system says.
    pub fn undo_over(&self) -> Result<Changes, Error> {
        let history = self.settled_history()?;
        let nothing = || Error::NothingToUndo {
            esp: self.root().into(),
        };
        let (number, change) = history.last_done().ok_or_else(nothing)?;
        let mut changes = Vec::new();
        for (step, position) in change.journal.steps.iter().zip(0_usize..) {
            let old = format!("{}/old{position}", history.directory(number));
            changes.push(self.undoing(step, &old)?);
        }
        let owned = history.owned_before(number, change);
        Changes::new(self, &history, changes, owned)
    }

    fn undoing(&self, step: &Step, old: &str) -> Result<Change, Error> {
        let path = self.as_counted(&step.path)?;
        let there = self.content(&path)?;
        let Some(before) = &step.before else {
            return Ok(match there {
                Some(there) => Change::remove(path, there),
                None => Change::absent(path),
            });
        };
        if there.as_ref() == Some(before) {
            return Ok(Change::keep(path, before.clone()));
        }
        if !self.holds(old, before)? {
            return Err(Error::UndoGone {
                path: self.shown(&path),
            });
        }
        let content = self.read(old)?;
        Ok(match there {
            Some(there) => Change::replace(path, there, content),
            None => Change::add(path, content),
        })
    }

    /// Gives up the way back of all changes, and with it the room it takes. Returns the bytes that became free.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another process is at work, and what the file system says.
    pub fn forget_undo(&self) -> Result<u64, Error> {
        let _lock = self.lock()?;
        self.settle_interrupted()?;
        let history = History::read(self)?;
        let newest = history.newest();
        for number in history.numbers().filter(|number| *number != newest) {
            discard(self, &history.directory(number))?;
        }
        let at = history.directory(newest);
        if history.owned().is_empty() && newest > 0 {
            discard(self, &at)?;
        } else if newest > 0 {
            for node in self.nodes(&at)? {
                let path = join(&at, &node.name);
                if node.name.starts_with("old") {
                    let removed = self.volume().remove(&path);
                    removed.map_err(|source| self.cannot_remove(&path, source))?;
                }
            }
            sync(self, &at)?;
        }
        let space = self.space()?;
        Ok(history.kept(|size| space.taken(size)))
    }

    /// What [`Esp::forget_undo`] would free, in bytes.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn kept_for_undo(&self) -> Result<u64, Error> {
        let space = self.space()?;
        Ok(History::read(self)?.kept(|size| space.taken(size)))
    }
}

impl Undo {
    /// What happens to each file.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// Undoes the change.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::Outdated`], and [`Error::Unfinished`] with what the file system says: the
    /// next change does what is left.
    pub fn apply(&self, esp: &Esp) -> Result<(), Error> {
        let _lock = esp.lock()?;
        let again = esp.undo()?;
        let history = History::read(esp)?;
        let journal = match history.last_done() {
            Some((number, change)) if number == self.number && again.number == number => {
                &change.journal
            }
            _ => {
                return Err(Error::Outdated {
                    esp: esp.root().into(),
                });
            }
        };
        let at = history.directory(self.number);
        let work = Work {
            esp,
            at: &at,
            journal,
        };
        work.take_back().map_err(|source| Error::Unfinished {
            source: Box::new(source),
        })
    }
}

impl std::fmt::Display for Undo {
    /// One line for each file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}
