//! What lies in the directories of companions, and what the stub and the initrd make of it.

use std::ffi::OsStr;
use std::fmt;

use crate::esp::{join, parent};
use crate::history::{self, History, Owner};
use crate::journal::Ledger;
use crate::volume::{Node, NodeKind};
use crate::{Error, Esp, Kind, NameRule, Target, UkiPath};

/// A file in a directory of companions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Whom the directory is for. The UKI need not be there.
    pub target: Target,
    /// From the root of the ESP, without a leading slash. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// What the stub takes a file of that name for, `None` if it leaves it alone everywhere.
    pub kind: Option<Kind>,
    /// Its size in bytes, 0 for what is not a regular file.
    pub size: u64,
    /// Who has put it there.
    pub owner: Owner,
    /// Why it has no effect, if it has none.
    pub note: Option<Note>,
}

impl Entry {
    /// The file name.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Why a file in a directory of companions has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The stub leaves it alone for its name.
    Name(NameRule),
    /// It is a directory or something FAT does not have.
    NotAFile,
    /// It lies in the directory for another kind.
    BelongsIn(&'static str),
    /// No UKI looks into the directory.
    NoUki,
    /// The stub takes the boot counter out of the name of the directory it looks for.
    Counter,
    /// The stub takes it in any case, the initrd only with this suffix.
    SuffixCase(&'static str),
    /// PID 1 skips credentials of more than 1 MiB.
    TooLarge,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(rule) => write!(f, "left alone: {rule}"),
            Self::NotAFile => f.write_str("left alone: it is not a regular file"),
            Self::BelongsIn(directory) => write!(f, "left alone: it belongs in {directory}"),
            Self::NoUki => f.write_str("left alone: there is no such UKI"),
            Self::Counter => f.write_str(
                "left alone: the stub looks in a directory without the boot counter in its name",
            ),
            Self::SuffixCase(suffix) => write!(
                f,
                "measured, then ignored by the initrd: its suffix is not {suffix} in lower case"
            ),
            Self::TooLarge => f.write_str(
                "measured, then ignored by the initrd: PID 1 takes credentials of up to 1 MiB",
            ),
        }
    }
}

impl Esp {
    /// The companions of one target, or of all of them, sorted by target and name.
    ///
    /// # Errors
    ///
    /// [`Error::NoUki`] if there is neither such a UKI nor a directory for it, and what the file
    /// system says.
    pub fn list(&self, only: Option<&Target>) -> Result<Vec<Entry>, Error> {
        let history = History::read(self)?;
        let mut entries = Vec::new();
        for (target, directory) in self.directories(only)? {
            let obstacle = self.obstacle(&target, &directory)?;
            for node in self.nodes(&directory)? {
                let path = join(&directory, &node.name);
                entries.push(Entry {
                    owner: self.owner(&history, &path)?,
                    ..entry(&target, path, &node, obstacle.clone())
                });
            }
        }
        entries.sort_by(|a, b| (&a.target, &a.path).cmp(&(&b.target, &b.path)));
        Ok(entries)
    }

    /// The files in the root, as if it were the directory of one UKI's companions. For directories that are no ESP.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn list_directory(&self) -> Result<Vec<Entry>, Error> {
        let nobody = Target::Uki("directory.efi".parse()?);
        let nodes = self.nodes("")?;
        let entries = nodes
            .iter()
            .map(|node| entry(&nobody, node.name.clone(), node, None));
        Ok(entries.collect())
    }

    fn owner(&self, history: &History, path: &str) -> Result<Owner, Error> {
        let owned: &Ledger = history.owned();
        history::owner(self, owned, path)
    }

    fn directories(&self, only: Option<&Target>) -> Result<Vec<(Target, String)>, Error> {
        let Some(target) = only else {
            let mut all = self.present(&Target::Global)?;
            self.walk("", DEEPEST, &mut all)?;
            return Ok(all);
        };
        let present = self.present(target)?;
        if let (Target::Uki(path), true) = (target, present.is_empty()) {
            self.uki(path)?;
        }
        Ok(present)
    }

    fn present(&self, target: &Target) -> Result<Vec<(Target, String)>, Error> {
        let mut present = Vec::new();
        for directory in target.directories() {
            if let Some(found) = self.find(&directory)? {
                present.push((target.clone(), found));
            }
        }
        Ok(present)
    }

    /// Collects every directory of companions below. Symbolic links are not followed.
    fn walk(
        &self,
        directory: &str,
        depth: usize,
        found: &mut Vec<(Target, String)>,
    ) -> Result<(), Error> {
        for node in self.nodes(directory)? {
            if node.kind != NodeKind::Directory {
                continue;
            }
            let path = join(directory, &node.name);
            match UkiPath::of_companions(&path) {
                Some(uki) => found.push((Target::Uki(uki), path)),
                None if depth > 0 => self.walk(&path, depth - 1, found)?,
                None => {}
            }
        }
        Ok(())
    }

    /// What keeps the stub from looking into the directory.
    fn obstacle(&self, target: &Target, directory: &str) -> Result<Option<Note>, Error> {
        let Target::Uki(path) = target else {
            return Ok(None);
        };
        let looked_into = path.companions();
        if !looked_into.eq_ignore_ascii_case(directory) {
            return Ok(Some(Note::Counter));
        }
        Ok(self.find_uki(path)?.is_none().then_some(Note::NoUki))
    }
}

fn entry(target: &Target, path: String, node: &Node, obstacle: Option<Note>) -> Entry {
    let taken = if node.kind == NodeKind::File {
        Kind::taken_by_stub(OsStr::new(&node.name)).map_err(Note::Name)
    } else {
        Err(Note::NotAFile)
    };
    let kind = taken.as_ref().ok().copied();
    let note = obstacle.or_else(|| match taken {
        Ok(kind) => misplaced(kind, target, &path)
            .or_else(|| ignored_by_initrd(kind, &node.name, node.size)),
        Err(note) => Some(note),
    });
    Entry {
        target: target.clone(),
        path,
        kind,
        size: node.size,
        owner: Owner::Other,
        note,
    }
}

/// Directories below one another; more than any boot loader makes.
const DEEPEST: usize = 16;

fn misplaced(kind: Kind, target: &Target, path: &str) -> Option<Note> {
    let wanted = kind.global_directory();
    let same = wanted.eq_ignore_ascii_case(parent(path));
    (*target == Target::Global && !same).then_some(Note::BelongsIn(wanted))
}

fn ignored_by_initrd(kind: Kind, name: &str, size: u64) -> Option<Note> {
    let suffix = match kind {
        Kind::Credential => ".cred",
        Kind::Extension | Kind::Confext => ".raw",
        // The stub itself reads addons.
        Kind::Addon => return None,
    };
    if !name.ends_with(suffix) {
        return Some(Note::SuffixCase(suffix));
    }
    (kind == Kind::Credential && size > LARGEST_CREDENTIAL).then_some(Note::TooLarge)
}

/// In bytes of the file; PID 1 also wants all credentials of the ESP together to stay below it.
const LARGEST_CREDENTIAL: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;

    fn esp_with(files: &[&str]) -> (tempfile::TempDir, Esp) {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let esp = Esp::at(directory.path()).unwrap();
        (directory, esp)
    }

    fn table(entries: &[Entry]) -> Vec<(String, Option<Kind>, Option<Note>)> {
        entries
            .iter()
            .map(|entry| (entry.path.clone(), entry.kind, entry.note.clone()))
            .collect()
    }

    #[test]
    fn sees_what_the_stub_and_the_initrd_see() {
        let (directory, esp) = esp_with(&[
            "EFI/Linux/a+3-0.efi",
            "EFI/Linux/a.efi.extra.d/KEY.CRED",
            "EFI/Linux/a.efi.extra.d/good.cred",
            "EFI/Linux/a.efi.extra.d/né.cred",
            "EFI/Linux/a.efi.extra.d/note.txt",
            "EFI/Linux/a.efi.extra.d/sub.cred/inside.cred",
            "EFI/Linux/a.efi.extra.d/x.ADDON.efi",
            "EFI/Linux/a+3-0.efi.extra.d/decoy.cred",
            "tok/gone.efi.extra.d/lost.raw",
            "loader/credentials/e.raw",
            "loader/credentials/g.cred",
            "loader/extensions/c.confext.raw",
            "loader/extensions/g.cred",
        ]);
        let large = directory.path().join("EFI/Linux/a.efi.extra.d/big.cred");
        fs::write(large, vec![0; 1024 * 1024 + 1]).unwrap();

        let here = "EFI/Linux/a.efi.extra.d";
        let credential = Some(Kind::Credential);
        let expected = [
            (
                "EFI/Linux/a+3-0.efi.extra.d/decoy.cred".to_owned(),
                credential,
                Some(Note::Counter),
            ),
            (
                format!("{here}/KEY.CRED"),
                credential,
                Some(Note::SuffixCase(".cred")),
            ),
            (format!("{here}/big.cred"), credential, Some(Note::TooLarge)),
            (format!("{here}/good.cred"), credential, None),
            (
                format!("{here}/note.txt"),
                None,
                Some(Note::Name(NameRule::Suffix)),
            ),
            (
                format!("{here}/né.cred"),
                None,
                Some(Note::Name(NameRule::NotAscii)),
            ),
            (format!("{here}/sub.cred"), None, Some(Note::NotAFile)),
            (format!("{here}/x.ADDON.efi"), Some(Kind::Addon), None),
            (
                "tok/gone.efi.extra.d/lost.raw".to_owned(),
                Some(Kind::Extension),
                Some(Note::NoUki),
            ),
            (
                "loader/credentials/e.raw".to_owned(),
                Some(Kind::Extension),
                Some(Note::BelongsIn("loader/extensions")),
            ),
            ("loader/credentials/g.cred".to_owned(), credential, None),
            (
                "loader/extensions/c.confext.raw".to_owned(),
                Some(Kind::Confext),
                None,
            ),
            (
                "loader/extensions/g.cred".to_owned(),
                credential,
                Some(Note::BelongsIn("loader/credentials")),
            ),
        ];
        assert_eq!(table(&esp.list(None).unwrap()), expected);

        let one = Target::Uki("EFI/Linux/a.efi".parse().unwrap());
        assert_eq!(table(&esp.list(Some(&one)).unwrap()), expected[1..8]);
        let global = esp.list(Some(&Target::Global)).unwrap();
        assert_eq!(table(&global), expected[9..]);
    }

    #[test]
    fn a_target_needs_a_uki_or_a_directory() {
        let (directory, esp) = esp_with(&["EFI/Linux/a.efi"]);
        let target = |path: &str| Target::Uki(path.parse().unwrap());
        assert_eq!(esp.list(Some(&target("EFI/Linux/a.efi"))).unwrap(), []);
        assert_eq!(
            esp.list(Some(&target("b.efi"))).unwrap_err().to_string(),
            format!(
                "there is no UKI `b.efi` on the ESP `{}`",
                directory.path().display()
            ),
        );
    }
}
