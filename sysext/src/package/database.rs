//! What the package manager of a root directory knows: which package owns which path.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::{Package, dpkg, rpm};
use crate::{Error, Release};

/// The largest file of a package manager that is read, in bytes.
const FILE_MAX: u64 = 256 << 20;
/// Directories that are links into `usr` on every merged system. Databases name paths on both sides of them.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// The packages of an installed system by the paths of their files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageDatabase {
    packages: Vec<Package>,
    /// Indexes into `packages`, by paths as a tree has them.
    owners: BTreeMap<Vec<u8>, usize>,
}

impl PackageDatabase {
    /// Reads the database of the system in directory `root`: dpkg's files, or rpm's through the program `rpm`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] for a file or a program that fails, [`Error::Value`] when there is neither database.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let system = system(root);
        if let Some(database) = dpkg::read(root, &system)? {
            return Ok(database);
        }
        match rpm::read(root, &system)? {
            Some(database) => Ok(database),
            None => Err(Error::value(format!(
                "`{}` has neither dpkg's nor rpm's database",
                root.display()
            ))),
        }
    }

    /// Reads dpkg's status file; `list` is asked for the files in its directory `info` by their names.
    pub fn of_dpkg(status: &[u8], list: impl FnMut(&str) -> Option<Vec<u8>>) -> Self {
        dpkg::parse(status, &Package::default(), list)
    }

    /// Reads what the program `rpm` says when it is asked by [`PackageDatabase::read`].
    pub fn of_rpm(listing: &[u8]) -> Self {
        rpm::parse(listing, &Package::default())
    }

    /// One of these paths and their packages.
    #[cfg(test)]
    pub(super) fn of(owned: impl IntoIterator<Item = (Vec<u8>, Package)>) -> Self {
        let mut database = Self::default();
        for (path, package) in owned {
            database.add(package, [path.as_slice()]);
        }
        database
    }

    /// The package that owns a path of a tree.
    pub fn package(&self, path: &[u8]) -> Option<&Package> {
        self.packages.get(*self.owners.get(path)?)
    }

    /// Adds a package with its paths, with or without a leading slash. Of two that own a path, the first does.
    pub(super) fn add<'a>(&mut self, package: Package, paths: impl IntoIterator<Item = &'a [u8]>) {
        let index = self.packages.len();
        self.packages.push(package);
        for path in paths {
            self.owners.entry(merged(path)).or_insert(index);
        }
    }
}

/// A path as it is where everything has moved into `usr`.
fn merged(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    if MERGED.iter().any(|directory| directory.as_bytes() == first) {
        [b"usr/", path].concat()
    } else {
        path.to_vec()
    }
}

/// What all packages of a system have in common: its name and version.
fn system(root: &Path) -> Package {
    let files = ["etc/os-release", "usr/lib/os-release"];
    let text = files.iter().find_map(|file| fs::read(root.join(file)).ok());
    let release = text
        .and_then(|text| Release::parse(&text).ok())
        .unwrap_or_default();
    let value = |key| release.value(key).map(str::to_owned);
    Package {
        os: value("ID"),
        os_version: value("VERSION_ID"),
        os_cpe: value("CPE_NAME"),
        ..Package::default()
    }
}

/// A file of the database; `None` when there is none.
pub(super) fn file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let read = || match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_MAX => {
            Err(io::Error::other(format!("is longer than {FILE_MAX} bytes")))
        }
        Ok(_) => fs::read(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    read().map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}
