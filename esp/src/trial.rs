//! A set of companions on trial: a boot entry of type #1 whose boots are counted, and one behind it that has the set of
//! before. Both start the same UKI, and what the sets share stays beside it.
//!
//! ```text
//! EFI/Linux/X.efi.extra.d/   what both share: the stub prefers it over `extra` lines of the same name
//! EFI/Linux/X.efi.tried.d/   what is new           ◀ extra ─ loader/entries/X.efi-tried+3.conf
//! EFI/Linux/X.efi.kept.d/    what it replaces      ◀ extra ─ loader/entries/X.efi-kept.conf
//! ```
//!
//! systemd-boot sorts entries without tries left last, and else by sort key, version and name, the highest first
//! (`boot_entry_compare`): with those of the UKI, `tried` stands before `kept`, both before the UKI itself, and the next
//! UKI of the system before all three.

use std::fmt;

use crate::entry::key_and_value;
use crate::esp::join;
use crate::target::without_entry_counter;
use crate::{Error, Esp, File, Uki, UkiPath};

const ENTRIES: &str = "loader/entries";

/// A set on trial, over one UKI.
#[derive(Debug, Clone)]
pub struct Trial {
    uki: UkiPath,
    /// Of the UKI, where it has them.
    sort_key: Option<String>,
    version: Option<String>,
}

/// Why a set cannot be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoTrial {
    /// The name of the UKI is counted itself, and would change under the entries.
    Counted,
    /// There is one already.
    OnTrial,
    /// Nothing that counts is on this partition.
    NoLoader,
    /// Its systemd-boot, at this path, is of this version.
    OldLoader(String, u32),
    /// This line of `loader.conf` starts something else.
    Default(String),
}

impl fmt::Display for NoTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counted => f.write_str("its own boots are counted"),
            Self::OnTrial => f.write_str("one is on trial already"),
            Self::NoLoader => f.write_str("there is no systemd-boot beside it"),
            Self::OldLoader(path, version) => write!(
                f,
                "`{path}` is systemd-boot {version}, and entries with `extra` lines take 261"
            ),
            Self::Default(line) => {
                write!(f, "loader/loader.conf starts something else: `{line}`")
            }
        }
    }
}

impl Esp {
    /// What it takes to try a set over this UKI.
    ///
    /// # Errors
    ///
    /// [`Error::Trial`] if that would not work, and why; and what the file system says.
    pub fn new_trial(&self, path: &UkiPath) -> Result<Trial, Error> {
        let uki = self.present_uki(path)?;
        let refuse = |why| {
            Err(Error::Trial {
                uki: uki.to_string(),
                why,
            })
        };
        if uki.without_counter() != uki.as_str() {
            return refuse(NoTrial::Counted);
        }
        if !self.trial(&uki)?.is_empty() {
            return refuse(NoTrial::OnTrial);
        }
        let file = self.read_uki(&uki)?;
        let trial = Trial::new(uki.clone(), &Uki::parse(&file)?);
        let mut loaders = self.boot_loaders()?;
        loaders.sort_by_key(|(_, version)| *version);
        match loaders.into_iter().next() {
            None => return refuse(NoTrial::NoLoader),
            Some((path, version)) if version < 261 => {
                return refuse(NoTrial::OldLoader(path, version));
            }
            Some(_) => {}
        }
        match self.default_but(&trial)? {
            Some(line) => refuse(NoTrial::Default(line)),
            None => Ok(trial),
        }
    }

    /// The files of a trial over this UKI, if there is one; its entries as the boot loader has counted them.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn trial(&self, uki: &UkiPath) -> Result<Vec<String>, Error> {
        let uki = uki.without_counter();
        let mut found = Vec::new();
        for set in [tried(&uki), kept(&uki)] {
            found.extend(self.files(&set)?.into_iter().map(|file| file.path));
        }
        let names = [tried_entry(&uki, None), kept_entry(&uki)];
        for entry in self.files(ENTRIES)? {
            let name = without_entry_counter(entry.name());
            if names.iter().any(|ours| ours.eq_ignore_ascii_case(&name)) {
                found.push(entry.path);
            }
        }
        Ok(found)
    }

    /// Each systemd-boot there is, and its version.
    fn boot_loaders(&self) -> Result<Vec<(String, u32)>, Error> {
        let mut found = Vec::new();
        for directory in ["EFI/systemd", "EFI/BOOT"] {
            for file in self.files(directory)? {
                found.extend(loader_version(&file.content).map(|version| (file.path, version)));
            }
        }
        Ok(found)
    }

    /// The line of `loader.conf` that names another entry.
    fn default_but(&self, trial: &Trial) -> Result<Option<String>, Error> {
        let files = self.files("loader")?;
        let file = files
            .iter()
            .find(|file| file.name().eq_ignore_ascii_case("loader.conf"));
        let text = file.map(|file| String::from_utf8_lossy(&file.content).into_owned());
        let entry = tried_entry(trial.uki.as_str(), None);
        let other = |line: &str| {
            let (key, value) = key_and_value(line)?;
            let names = ["default", "preferred"].contains(&key) && !matches(value, &entry);
            names.then(|| line.trim().to_owned())
        };
        Ok(text.iter().flat_map(|text| text.lines()).find_map(other))
    }
}

impl Trial {
    fn new(path: UkiPath, uki: &Uki<'_>) -> Self {
        let release = String::from_utf8_lossy(uki.osrel().unwrap_or_default()).into_owned();
        let first = |keys: &[&str]| keys.iter().find_map(|key| value(&release, key));
        Self {
            uki: path,
            sort_key: first(&["IMAGE_ID", "ID"]),
            version: first(&["IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"]),
        }
    }

    /// Where the new companions of a trial over this UKI lie.
    pub fn directory(uki: &UkiPath) -> String {
        tried(&uki.without_counter())
    }

    /// Where a new companion of this name lies.
    pub fn tried(&self, name: &str) -> String {
        join(&tried(self.uki.as_str()), name)
    }

    /// Where a companion of this name lies that the trial does without.
    pub fn kept(&self, name: &str) -> String {
        join(&kept(self.uki.as_str()), name)
    }

    /// The two entries: of the new files, tried so many times, and of those they replace.
    pub fn entries(&self, tries: u32, tried: &[File], kept: &[File]) -> [File; 2] {
        let uki = self.uki.as_str();
        [
            (tried_entry(uki, Some(tries)), "on trial", tried),
            (kept_entry(uki), "as before", kept),
        ]
        .map(|(name, title, files)| {
            let text = self.entry(title, files);
            File::new(join(ENTRIES, &name), text.into_bytes())
        })
    }

    fn entry(&self, title: &str, files: &[File]) -> String {
        let uki = &self.uki;
        let name = uki.as_str().rsplit('/').next().unwrap_or_default();
        let mut lines = format!("title {name}, {title}\n");
        for (key, value) in [("sort-key", &self.sort_key), ("version", &self.version)] {
            lines.extend(value.iter().map(|value| format!("{key} {value}\n")));
        }
        lines.push_str(&format!("uki /{uki}\n"));
        lines.extend(files.iter().map(|file| format!("extra /{}\n", file.path)));
        lines
    }
}

/// Whether a directory holds one of the two sets.
pub(crate) fn is_set(directory: &str) -> bool {
    let directory = directory.to_ascii_lowercase();
    directory.ends_with(".efi.tried.d") || directory.ends_with(".efi.kept.d")
}

fn tried(uki: &str) -> String {
    format!("{uki}.tried.d")
}

fn kept(uki: &str) -> String {
    format!("{uki}.kept.d")
}

fn tried_entry(uki: &str, tries: Option<u32>) -> String {
    let name = uki.rsplit('/').next().unwrap_or_default();
    let counter = tries.map_or(String::new(), |tries| format!("+{tries}"));
    format!("{name}-tried{counter}.conf")
}

fn kept_entry(uki: &str) -> String {
    let name = uki.rsplit('/').next().unwrap_or_default();
    format!("{name}-kept.conf")
}

/// The value of a key of os-release(5), as the loader reads it.
fn value(release: &str, key: &str) -> Option<String> {
    let mut values = release
        .lines()
        .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
    let value = values.next_back()?.trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// What systemd-boot says of itself in its `.sdmagic` section.
fn loader_version(file: &[u8]) -> Option<u32> {
    const MAGIC: &[u8] = b"#### LoaderInfo: systemd-boot ";
    let at = file.windows(MAGIC.len()).position(|bytes| bytes == MAGIC)?;
    let digits = file.get(at + MAGIC.len()..)?.iter();
    let digits: String = digits
        .map(|byte| char::from(*byte))
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

/// As far as fnmatch(3) goes in `loader.conf`: `*` and `?`, in any case.
fn matches(pattern: &str, text: &str) -> bool {
    let lower = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (pattern, text) = (lower(pattern), lower(text));
    let (mut at, mut place) = (0, 0);
    // Behind the last `*`, and how far it reaches.
    let mut star = None;
    while let Some(char) = text.get(place) {
        match pattern.get(at) {
            Some('*') => {
                at += 1;
                star = Some((at, place));
            }
            Some(wanted) if *wanted == '?' || wanted == char => (at, place) = (at + 1, place + 1),
            _ => {
                let Some((behind, reached)) = star else {
                    return false;
                };
                (at, place) = (behind, reached + 1);
                star = Some((behind, place));
            }
        }
    }
    pattern.iter().skip(at).all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_say_what_the_loader_sorts_by() {
        let path: UkiPath = "EFI/Linux/vendor.efi".parse().unwrap();
        let release = "ID=vendor\nNAME=Vendor\nVERSION_ID=\"2\"\nVERSION=\"2 (two)\"\n";
        let trial = Trial {
            sort_key: value(release, "ID"),
            version: value(release, "VERSION"),
            uki: path,
        };
        let files = |name: &str| [File::new(trial.tried(name), Vec::new())];
        let [tried, kept] = trial.entries(3, &files("a.cred"), &[]);
        assert_eq!(tried.path, "loader/entries/vendor.efi-tried+3.conf");
        assert_eq!(
            String::from_utf8(tried.content).unwrap(),
            "title vendor.efi, on trial\nsort-key vendor\nversion 2 (two)\nuki /EFI/Linux/vendor.efi\n\
             extra /EFI/Linux/vendor.efi.tried.d/a.cred\n"
        );
        assert_eq!(kept.path, "loader/entries/vendor.efi-kept.conf");
        assert_eq!(
            String::from_utf8(kept.content).unwrap(),
            "title vendor.efi, as before\nsort-key vendor\nversion 2 (two)\nuki /EFI/Linux/vendor.efi\n"
        );
    }

    #[test]
    fn patterns_are_those_of_the_loader() {
        for (pattern, expected) in [
            ("*", true),
            ("vendor*", true),
            ("VENDOR.EFI-tried.conf", true),
            ("*tried*", true),
            ("v?ndor*.conf", true),
            ("vendor.efi", false),
            ("@saved", false),
            ("*kept*", false),
            ("", false),
        ] {
            assert_eq!(
                matches(pattern, "vendor.efi-tried.conf"),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn loaders_tell_their_version() {
        let file = b"MZ\0\0#### LoaderInfo: systemd-boot 262~rc1-1 ####\0";
        assert_eq!(loader_version(file), Some(262));
        assert_eq!(loader_version(b"MZ"), None);
        assert_eq!(loader_version(b"#### LoaderInfo: systemd-boot "), None);
    }
}
