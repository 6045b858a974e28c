//! The EFI system partition as a directory: finding things on it the way FAT does, and planning changes.
//!
//! Names are compared without regard to ASCII case, so that any directory behaves as the mounted FAT
//! would. Symbolic links, which FAT does not have, are never followed below the root.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::change::{Change, Changes};
use crate::companion::size;
use crate::{Companion, Error, Kind, NameRule, PathRule, Target, UkiPath};

/// An EFI system partition (or XBOOTLDR partition), mounted or just a directory with its files.
#[derive(Debug, Clone)]
pub struct Esp {
    root: PathBuf,
}

impl Esp {
    /// The ESP whose root is this directory.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if there is nothing, [`Error::NotADirectory`] if it is something else.
    pub fn at(root: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(root).map_err(cannot_read(root))?;
        if !metadata.is_dir() {
            return Err(Error::NotADirectory { path: root.into() });
        }
        Ok(Self { root: root.into() })
    }

    /// Its root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The paths of the UKIs in `EFI/Linux`, where boot loaders look for them by themselves.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn ukis(&self) -> Result<Vec<UkiPath>, Error> {
        let Some(directory) = self.find("EFI/Linux")? else {
            return Ok(Vec::new());
        };
        let paths = names(&directory)?.into_iter().filter_map(|name| {
            let name = name.into_string().ok()?;
            let is_uki = name.to_ascii_lowercase().ends_with(".efi");
            let is_file = fs::symlink_metadata(directory.join(&name)).is_ok_and(|m| m.is_file());
            (is_uki && is_file).then(|| format!("EFI/Linux/{name}").parse().ok())?
        });
        Ok(paths.collect())
    }

    /// The file of a UKI. One that is boot counted is found by its name with any counter or none,
    /// as the boot loader renames it at every try.
    ///
    /// # Errors
    ///
    /// [`Error::NoUki`] if there is none, [`Error::UkiPath`] if the stub would not see the counter
    /// in its name.
    pub fn uki(&self, path: &UkiPath) -> Result<PathBuf, Error> {
        let found = self.find_uki(path)?.ok_or_else(|| Error::NoUki {
            path: path.to_string(),
            esp: self.root.clone(),
        })?;
        if found.counter_stays() {
            return Err(Error::UkiPath {
                path: found.to_string(),
                rule: PathRule::CounterStays,
            });
        }
        let file = self.root.join(found.as_str());
        regular_file(&file)?;
        Ok(file)
    }

    pub(crate) fn find_uki(&self, path: &UkiPath) -> Result<Option<UkiPath>, Error> {
        let (directory, file) = path.split();
        let Some(at) = self.find(directory)? else {
            return Ok(None);
        };
        if let Some(name) = entry(&at, file)? {
            return Ok(self.relative(&at.join(name)).parse().ok());
        }
        let wanted = path.without_counter();
        let named_alike = names(&at)?.into_iter().find_map(|name| {
            let other: UkiPath = self.relative(&at.join(name)).parse().ok()?;
            let same = other.without_counter().eq_ignore_ascii_case(&wanted);
            same.then_some(other)
        });
        Ok(named_alike)
    }

    /// What placing these files beside the target would change. Nothing is written.
    ///
    /// # Errors
    ///
    /// [`Error::NoUki`] for a target that is not there, [`Error::CaseClash`] or [`Error::Twice`] for
    /// names that FAT cannot tell apart, and what the file system says.
    pub fn place(&self, target: &Target, files: Vec<Companion>) -> Result<Changes, Error> {
        if let Target::Uki(path) = target {
            self.uki(path)?;
        }
        refuse_clashes(&files)?;
        let changes = files
            .into_iter()
            .map(|file| self.placing(target, file))
            .collect::<Result<_, Error>>()?;
        Ok(Changes::new(changes))
    }

    fn placing(&self, target: &Target, file: Companion) -> Result<Change, Error> {
        let kind = file.name().kind();
        let (directory, existing) = self.look_up(&target.directory(kind), file.name().as_str())?;
        let Some(existing) = existing else {
            let path = format!("{directory}/{}", file.name());
            return Ok(Change::add(path, kind, file.into_content()));
        };
        if existing != file.name().as_str() {
            return Err(Error::CaseClash {
                name: file.name().to_string(),
                other: existing,
            });
        }
        let path = format!("{directory}/{existing}");
        let before = regular_file(&self.root.join(&path))?.len();
        if self.holds(&path, before, file.content())? {
            return Ok(Change::keep(path, kind, before));
        }
        Ok(Change::replace(path, kind, before, file.into_content()))
    }

    /// What removing these names from the target would change. One that is not there is no error:
    /// a second run changes nothing. The UKI itself may be gone already.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for a name the stub would not take for a companion, [`Error::Twice`], and what
    /// the file system says.
    pub fn remove(&self, target: &Target, names: &[String]) -> Result<Changes, Error> {
        refuse_twice(names)?;
        let changes = names
            .iter()
            .map(|name| self.removing(target, name))
            .collect::<Result<_, Error>>()?;
        Ok(Changes::new(changes))
    }

    fn removing(&self, target: &Target, name: &str) -> Result<Change, Error> {
        let kind = if name.contains('/') {
            Err(NameRule::Path)
        } else {
            Kind::taken_by_stub(name.as_ref())
        };
        let kind = kind.map_err(|rule| Error::Name {
            name: name.to_owned(),
            rule,
        })?;
        let (directory, existing) = self.look_up(&target.directory(kind), name)?;
        let Some(existing) = existing else {
            return Ok(Change::absent(format!("{directory}/{name}"), kind));
        };
        let path = format!("{directory}/{existing}");
        let before = regular_file(&self.root.join(&path))?.len();
        Ok(Change::remove(path, kind, before))
    }

    /// The directory and the name in it as they are spelt on the ESP, the name only if it is there.
    fn look_up(&self, directory: &str, name: &str) -> Result<(String, Option<String>), Error> {
        let Some(found) = self.find(directory)? else {
            return Ok((directory.to_owned(), None));
        };
        let existing = entry(&found, name)?;
        Ok((self.relative(&found), existing))
    }

    /// A path from the root of the ESP, as it is spelt there.
    pub(crate) fn find(&self, path: &str) -> Result<Option<PathBuf>, Error> {
        let mut at = self.root.clone();
        for component in path.split('/').filter(|component| !component.is_empty()) {
            let Some(name) = entry(&at, component)? else {
                return Ok(None);
            };
            at.push(name);
            refuse_symbolic_link(&at)?;
        }
        Ok(Some(at))
    }

    /// The way from the root of the ESP, with slashes and none in front.
    pub(crate) fn relative(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        below.to_string_lossy().into_owned()
    }

    /// Whether the file has exactly this content.
    fn holds(&self, path: &str, length: u64, content: &[u8]) -> Result<bool, Error> {
        if length != size(content) {
            return Ok(false);
        }
        let path = self.root.join(path);
        let file = File::open(&path).map_err(cannot_read(&path))?;
        same_bytes(file, content).map_err(cannot_read(&path))
    }
}

fn same_bytes(mut file: File, mut expected: &[u8]) -> io::Result<bool> {
    let mut buffer = [0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Ok(expected.is_empty());
        }
        match expected.strip_prefix(read) {
            Some(rest) => expected = rest,
            None => return Ok(false),
        }
    }
}

fn refuse_clashes(files: &[Companion]) -> Result<(), Error> {
    let names: Vec<String> = files.iter().map(|file| file.name().to_string()).collect();
    refuse_twice(&names)
}

fn refuse_twice(names: &[String]) -> Result<(), Error> {
    let mut rest = names;
    while let Some((name, after)) = rest.split_first() {
        match after.iter().find(|other| other.eq_ignore_ascii_case(name)) {
            Some(other) if other == name => return Err(Error::Twice { name: name.clone() }),
            Some(other) => {
                return Err(Error::CaseClash {
                    name: name.clone(),
                    other: other.clone(),
                });
            }
            None => rest = after,
        }
    }
    Ok(())
}

/// The name of an entry as it is spelt in the directory: exactly so, or else in another case.
fn entry(directory: &Path, name: &str) -> Result<Option<String>, Error> {
    let alike: Vec<String> = names(directory)?
        .into_iter()
        .filter_map(|other| other.into_string().ok())
        .filter(|other| other.eq_ignore_ascii_case(name))
        .collect();
    let exact = alike.iter().find(|other| *other == name);
    Ok(exact.or(alike.first()).cloned())
}

/// The names in a directory, sorted by byte.
pub(crate) fn names(directory: &Path) -> Result<Vec<OsString>, Error> {
    let read = || -> io::Result<Vec<OsString>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name()))
            .collect()
    };
    let mut names = read().map_err(|source| match source.kind() {
        io::ErrorKind::NotADirectory => Error::NotADirectory {
            path: directory.into(),
        },
        _ => cannot_read(directory)(source),
    })?;
    names.sort();
    Ok(names)
}

fn refuse_symbolic_link(path: &Path) -> Result<Metadata, Error> {
    let metadata = fs::symlink_metadata(path).map_err(cannot_read(path))?;
    if metadata.is_symlink() {
        return Err(Error::SymbolicLink { path: path.into() });
    }
    Ok(metadata)
}

fn regular_file(path: &Path) -> Result<Metadata, Error> {
    let metadata = refuse_symbolic_link(path)?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.into() });
    }
    Ok(metadata)
}

fn cannot_read(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Read {
        path: path.into(),
        source,
    }
}
