//! Which package each file of an extension came from, recorded in the extension when it is built: for the day
//! when a package turns out to be vulnerable and somebody asks which images carry it.
//!
//! ```text
//! usr/lib/extension-release.d/packages.NAME.json
//! {"schema":1,"packages":[{"type":"deb","name":"nbd-client",…,"files":["usr/sbin/nbd-client"]}]}
//! ```
//!
//! The name of the extension is in the path, so records of several extensions stand side by side once they are
//! merged. The members of a package are those of the ELF package metadata specification.

mod database;
mod dpkg;
mod note;
mod rpm;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use database::PackageDatabase;

use crate::{Entry, Error, Kind, Tree, escape};

/// A record is a few lines for each package; more is not read.
const RECORD_MAX: usize = 16 << 20;
/// The version of the record; it changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;

/// A package as its distribution names it. What is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Package {
    /// Its format: `deb`, `rpm` and so on.
    #[serde(rename = "type")]
    pub format: String,
    /// Its name.
    pub name: String,
    /// Its version, with the release of the distribution.
    pub version: String,
    /// What it was built for, in the distribution's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The name of the package's source, if it has another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `ID` of the distribution's os-release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Its `VERSION_ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The distribution in the words of NIST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os_cpe: Option<String>,
}

/// A package and its files in an extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackagedFiles {
    /// The package.
    #[serde(flatten)]
    pub package: Package,
    /// Paths in the extension, as [`escape`] shows them, in their order.
    pub files: Vec<String>,
}

/// All packages of an extension, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackageRecord {
    /// 1, until a member changes its meaning or goes.
    schema: u32,
    /// At least one.
    pub packages: Vec<PackagedFiles>,
}

impl PackageRecord {
    /// Finds the packages of all files in `tree`: by the note that is in an executable or library, else by its
    /// path in `database`. `None` when no file is known.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] for a file that cannot be read.
    pub fn of(tree: &Tree, database: Option<&PackageDatabase>) -> Result<Option<Self>, Error> {
        let mut found: BTreeMap<Package, Vec<String>> = BTreeMap::new();
        for (path, entry) in tree.iter() {
            if let Some(package) = package(path, entry, database)? {
                found.entry(package).or_default().push(escape(path));
            }
        }
        let packages = found.into_iter();
        let packages: Vec<_> = packages
            .map(|(package, files)| PackagedFiles { package, files })
            .collect();
        let schema = SCHEMA;
        Ok((!packages.is_empty()).then_some(Self { schema, packages }))
    }

    /// Reads a record that was found in an image.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] with what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let record: Self = serde_json::from_slice(json)
            .map_err(|error| Error::value(format!("is no record of packages: {error}")))?;
        if record.schema == SCHEMA {
            Ok(record)
        } else {
            let what = format!(
                "is a record of packages of version {}, not {SCHEMA}",
                record.schema
            );
            Err(Error::value(what))
        }
    }

    /// Where the record of an extension whose release file is at `release` lies.
    pub(crate) fn path(release: &str) -> String {
        let (directory, name) = release
            .rsplit_once("extension-release.")
            .unwrap_or(("", release));
        format!("{directory}packages.{name}.json")
    }

    /// The record in an extension whose release file is at `release`; `None` when it has none.
    pub(crate) fn read(tree: &Tree, release: &str) -> Result<Option<Self>, Error> {
        let path = Self::path(release);
        let Some(entry) = tree.get(&path) else {
            return Ok(None);
        };
        let Kind::File(content) = &entry.kind else {
            return Err(Error::entry(path.as_bytes(), "is not a regular file"));
        };
        let record = Self::parse(&content.read(RECORD_MAX)?);
        record
            .map(Some)
            .map_err(|error| Error::entry(path.as_bytes(), error.to_string()))
    }

    /// The record as it is kept: compact JSON and a line's end.
    pub fn to_json(&self) -> Vec<u8> {
        // A structure of strings always becomes JSON.
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

fn package(
    path: &[u8],
    entry: &Entry,
    database: Option<&PackageDatabase>,
) -> Result<Option<Package>, Error> {
    let noted = match &entry.kind {
        Kind::File(content) if may_be_elf(path, entry) => note::of(content)?,
        Kind::Directory => return Ok(None),
        _ => None,
    };
    Ok(noted.or_else(|| database?.package(path).cloned()))
}

/// Programs can be run, libraries say it in their name: no other file is opened for its note.
fn may_be_elf(path: &[u8], entry: &Entry) -> bool {
    entry.mode & 0o111 != 0 || path.windows(3).any(|part| part == b".so")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nbd() -> Package {
        Package {
            format: "deb".into(),
            name: "nbd-client".into(),
            version: "1:3.26.1-1".into(),
            architecture: Some("amd64".into()),
            ..Package::default()
        }
    }

    #[test]
    fn files_are_recorded_with_their_packages() {
        let mut tree = Tree::new();
        tree.insert("usr/sbin/nbd-client", Entry::file("no ELF"))
            .unwrap();
        tree.insert("usr/sbin/own", Entry::file("nobody's"))
            .unwrap();
        tree.insert("usr/lib/b\n", Entry::symlink("x")).unwrap();
        let paths: [&[u8]; 3] = [b"usr/sbin/nbd-client", b"usr/lib/b\n", b"usr/sbin"];
        let database = PackageDatabase::of(paths.map(|path| (path.to_vec(), nbd())));
        assert_eq!(PackageRecord::of(&tree, None).unwrap(), None);
        let record = PackageRecord::of(&tree, Some(&database)).unwrap().unwrap();
        let json = String::from_utf8(record.to_json()).unwrap();
        assert_eq!(
            json,
            "{\"schema\":1,\"packages\":[{\"type\":\"deb\",\"name\":\"nbd-client\",\"version\":\"1:3.26.1-1\",\
             \"architecture\":\"amd64\",\"files\":[\"usr/lib/b\\\\x0a\",\"usr/sbin/nbd-client\"]}]}\n"
        );
        assert_eq!(PackageRecord::parse(json.as_bytes()).unwrap(), record);
    }

    #[test]
    fn a_record_lies_beside_the_release_file() {
        let path = PackageRecord::path("usr/lib/extension-release.d/extension-release.demo");
        assert_eq!(path, "usr/lib/extension-release.d/packages.demo.json");
    }

    #[test]
    fn records_of_others_are_refused() {
        for (json, expected) in [
            (
                "{",
                "is no record of packages: EOF while parsing an object at line 1 column 1",
            ),
            (
                "{\"schema\":2,\"packages\":[]}",
                "is a record of packages of version 2, not 1",
            ),
        ] {
            let error = PackageRecord::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
