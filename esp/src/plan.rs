//! Planning: what is there and what is wanted make a change. Nothing is written.

use std::collections::BTreeSet;

use crate::change::{Change, Changes};
use crate::digest::Content;
use crate::esp::{alike, join, parent};
use crate::history::{self, History, Owner};
use crate::journal::{Ledger, Owned};
use crate::target::without_entry_counter;
use crate::volume::NodeKind;
use crate::{Companion, Error, Esp, File, Kind, NameRule, Target, UkiPath};

/// How files are placed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Placing {
    /// Also over what ukikit has not placed.
    pub force: bool,
    /// Nothing else: what lies beside the target and is not among the files goes in the same change.
    pub only: bool,
    /// The UKIs they are there for: [`Esp::garbage`] has them when the last of these is gone. None: they stay.
    pub needed_by: Vec<UkiPath>,
}

impl Placing {
    /// Over nothing of others, to stay.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Esp {
    /// What placing these files beside the target would change. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`Error::NoUki`] for a target that is not there, [`Error::CaseClash`] or [`Error::Twice`] for
    /// names that FAT cannot tell apart, [`Error::Foreign`] or [`Error::ChangedSince`] for a file that is
    /// not ukikit's, [`Error::Interrupted`] if [`Esp::recover`] has something to do, and what the file system says.
    pub fn place(&self, target: &Target, files: Vec<Companion>) -> Result<Changes, Error> {
        self.place_with(target, files, &Placing::new())
    }

    /// The same, in another way.
    ///
    /// # Errors
    ///
    /// As [`Esp::place`].
    pub fn place_with(
        &self,
        target: &Target,
        files: Vec<Companion>,
        how: &Placing,
    ) -> Result<Changes, Error> {
        if let Target::Uki(path) = target {
            self.present_uki(path)?;
        }
        let others = if how.only {
            self.others(target, &files)?
        } else {
            Vec::new()
        };
        let files = files.into_iter().map(|file| {
            let path = file.path(target);
            File::new(path, file.into_content())
        });
        self.exchange(files.collect(), &others, how)
    }

    /// The companions of a target that are not among these.
    fn others(&self, target: &Target, files: &[Companion]) -> Result<Vec<String>, Error> {
        let is_given = |name: &str| {
            let mut given = files.iter().map(|file| file.name().as_str());
            given.any(|given| given.eq_ignore_ascii_case(name))
        };
        let mut others = Vec::new();
        for directory in target.directories() {
            let Some(directory) = self.find(&directory)? else {
                continue;
            };
            for node in self.nodes(&directory)? {
                let companion = Kind::taken_by_stub(node.name.as_ref()).is_ok();
                if companion && node.kind == NodeKind::File && !is_given(&node.name) {
                    others.push(join(&directory, &node.name));
                }
            }
        }
        Ok(others)
    }

    /// What putting these files on the ESP would change: companions, UKIs and boot entries as one change,
    /// in which whatever can be booted comes last.
    ///
    /// # Errors
    ///
    /// As [`Esp::place`].
    pub fn put(&self, files: Vec<File>, how: &Placing) -> Result<Changes, Error> {
        self.exchange(files, &[], how)
    }

    /// The same, with these paths taken away in the same change. One that is not there is no error.
    ///
    /// # Errors
    ///
    /// As [`Esp::place`].
    pub fn exchange(
        &self,
        files: Vec<File>,
        gone: &[String],
        how: &Placing,
    ) -> Result<Changes, Error> {
        let coming = files.iter().map(|file| file.path.as_str());
        let names: Vec<&str> = coming.chain(gone.iter().map(String::as_str)).collect();
        refuse_twice(&names)?;
        for uki in &how.needed_by {
            self.present_uki(uki)?;
        }
        let history = self.settled_history()?;
        let mut owned = history.owned().clone();
        let mut changes = Vec::new();
        for path in gone {
            changes.push(self.removing(&history, &mut owned, path, how.force)?);
        }
        for file in files {
            let holds = Content::of(&file.content);
            let change = self.putting(&history, file, how.force)?;
            own(&mut owned, &change, holds, how);
            changes.push(change);
        }
        Changes::new(self, &history, changes, owned)
    }

    fn putting(&self, history: &History, file: File, force: bool) -> Result<Change, Error> {
        let (directory, existing) = self.look_up(&file.path)?;
        let path = join(&directory, file.name());
        let Some(existing) = existing else {
            return Ok(Change::add(path, file.content));
        };
        if existing != file.name() {
            return Err(Error::CaseClash {
                name: file.name().to_owned(),
                other: existing,
            });
        }
        let before = self.content_of_file(&path)?;
        if before == Content::of(&file.content) {
            return Ok(Change::keep(path, before));
        }
        self.refuse_foreign(history, &path, force)?;
        Ok(Change::replace(path, before, file.content))
    }

    /// What removing these names from the target would change. One that is not there is no error:
    /// a second run changes nothing. The UKI itself may be gone already.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for a name the stub would not take for a companion, [`Error::Twice`], and else as
    /// [`Esp::place`].
    pub fn remove(&self, target: &Target, names: &[String]) -> Result<Changes, Error> {
        self.remove_with(target, names, false)
    }

    /// The same, with `force` also what ukikit has not placed.
    ///
    /// # Errors
    ///
    /// As [`Esp::remove`].
    pub fn remove_with(
        &self,
        target: &Target,
        names: &[String],
        force: bool,
    ) -> Result<Changes, Error> {
        refuse_twice(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let paths = names
            .iter()
            .map(|name| Ok(join(&target.directory(kind_of(name)?), name)))
            .collect::<Result<Vec<_>, Error>>()?;
        self.taking_away(&paths, force)
    }

    fn taking_away(&self, paths: &[String], force: bool) -> Result<Changes, Error> {
        let history = self.settled_history()?;
        let mut owned = history.owned().clone();
        let mut changes = Vec::new();
        for path in paths {
            changes.push(self.removing(&history, &mut owned, path, force)?);
        }
        Changes::new(self, &history, changes, owned)
    }

    fn removing(
        &self,
        history: &History,
        owned: &mut Ledger,
        path: &str,
        force: bool,
    ) -> Result<Change, Error> {
        let (directory, existing) = self.look_up(path)?;
        let Some(existing) = existing else {
            let name = path.rsplit('/').next().unwrap_or_default();
            return Ok(Change::absent(join(&directory, name)));
        };
        let path = join(&directory, &existing);
        let before = self.content_of_file(&path)?;
        self.refuse_foreign(history, &path, force)?;
        if let Some(key) = history::key_of(owned, &path).map(str::to_owned) {
            owned.remove(&key);
        }
        Ok(Change::remove(path, before))
    }

    /// What nobody needs any more of what ukikit has placed: companions of UKIs that are gone, and files for
    /// all when the last UKI they were there for is gone. Files of others are not in it.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn garbage(&self) -> Result<Changes, Error> {
        let history = self.settled_history()?;
        let mut paths = Vec::new();
        for (path, placed) in history.owned() {
            let ours = history::owner(self, history.owned(), path)? == Owner::Ukikit;
            if ours && !self.is_needed(path, placed)? {
                paths.push(path.clone());
            }
        }
        self.taking_away(&paths, false)
    }

    fn is_needed(&self, path: &str, placed: &Owned) -> Result<bool, Error> {
        if let Some(uki) = UkiPath::of_companions(parent(path)) {
            return Ok(self.find_uki(&uki)?.is_some());
        }
        for uki in placed.needed_by.iter().filter_map(|uki| uki.parse().ok()) {
            if self.find_uki(&uki)?.is_some() {
                return Ok(true);
            }
        }
        Ok(placed.needed_by.is_empty())
    }

    fn refuse_foreign(&self, history: &History, path: &str, force: bool) -> Result<(), Error> {
        let shown = self.shown(path);
        match history::owner(self, history.owned(), path)? {
            Owner::Ukikit => Ok(()),
            _ if force => Ok(()),
            Owner::Changed => Err(Error::ChangedSince { path: shown }),
            Owner::Other => Err(Error::Foreign { path: shown }),
        }
    }

    fn content_of_file(&self, path: &str) -> Result<Content, Error> {
        self.regular_file(path)?;
        let gone = || Error::NotAFile {
            path: self.shown(path),
        };
        self.content(path)?.ok_or_else(gone)
    }

    /// The directory and the name in it as they are spelt on the ESP, the name only if it is there.
    fn look_up(&self, path: &str) -> Result<(String, Option<String>), Error> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.spelt(directory)?;
        if self.find(&directory)?.is_none() {
            return Ok((directory, None));
        }
        let nodes = self.nodes(&directory)?;
        let found = alike(&nodes, name).or_else(|| {
            let mut counted = nodes.iter().filter(|_| history::is_counted(path));
            let name = without_entry_counter(name);
            counted.find(|node| without_entry_counter(&node.name).eq_ignore_ascii_case(&name))
        });
        Ok((directory, found.map(|node| node.name.clone())))
    }

    /// The path of a boot entry as the boot loader has counted it; any other, and one that is not there, as it is.
    pub(crate) fn as_counted(&self, path: &str) -> Result<String, Error> {
        if !history::is_counted(path) {
            return Ok(path.to_owned());
        }
        let (directory, found) = self.look_up(path)?;
        Ok(found.map_or_else(|| path.to_owned(), |name| join(&directory, &name)))
    }
}

/// A file becomes ours when it is written. One that was there with the same bytes becomes so only by force.
fn own(owned: &mut Ledger, change: &Change, content: Content, how: &Placing) {
    let unchanged = change.was() == Some(&content);
    let placed = owned.get(&change.path);
    if unchanged && placed.is_none() && !how.force {
        return;
    }
    let stays =
        placed.is_some_and(|placed| placed.needed_by.is_empty()) || how.needed_by.is_empty();
    let mut needed_by = BTreeSet::new();
    if !stays {
        needed_by.extend(
            placed
                .into_iter()
                .flat_map(|placed| placed.needed_by.clone()),
        );
        needed_by.extend(how.needed_by.iter().map(UkiPath::without_counter));
    }
    let needed_by = needed_by.into_iter().collect();
    owned.insert(change.path.clone(), Owned { content, needed_by });
}

fn kind_of(name: &str) -> Result<Kind, Error> {
    let kind = if name.contains('/') {
        Err(NameRule::Path)
    } else {
        Kind::taken_by_stub(name.as_ref())
    };
    kind.map_err(|rule| Error::Name {
        name: name.to_owned(),
        rule,
    })
}

fn refuse_twice(paths: &[&str]) -> Result<(), Error> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut rest = paths;
    while let Some((path, after)) = rest.split_first() {
        match after.iter().find(|other| other.eq_ignore_ascii_case(path)) {
            Some(other) if other == path => return Err(Error::Twice { name: name(path) }),
            Some(other) => {
                return Err(Error::CaseClash {
                    name: name(path),
                    other: name(other),
                });
            }
            None => rest = after,
        }
    }
    Ok(())
}
