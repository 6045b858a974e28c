//! What a companion may be called and where it lies, by the rules of systemd-stub (`load_addons`,
//! `pack_cpio`, `remove_boot_count`), of the initrd that reads it, and of FAT.
//!
//! ```text
//! of one UKI   EFI/Linux/X.efi (or X+3-1.efi)  →  EFI/Linux/X.efi.extra.d/NAME
//! of all       loader/credentials/NAME.cred, loader/extensions/NAME.raw, loader/addons/NAME.addon.efi
//! ```

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use crate::Error;
use crate::target::Target;

/// What kind of file the stub takes a companion for. Its suffix decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// An encrypted credential, `.cred`
    Credential,
    /// A system extension image, `.sysext.raw` or `.raw`
    Extension,
    /// A configuration extension image, `.confext.raw`
    Confext,
    /// A PE file with a command line, an initrd or a devicetree, `.addon.efi`
    Addon,
}

/// The first that fits decides: every `.confext.raw` also ends in `.raw`.
const SUFFIXES: [(&str, Kind); 5] = [
    (".cred", Kind::Credential),
    (".confext.raw", Kind::Confext),
    (".sysext.raw", Kind::Extension),
    (".raw", Kind::Extension),
    (".addon.efi", Kind::Addon),
];

/// In characters; what Linux takes, so the stub stops there too.
const LONGEST_NAME: usize = 255;

impl Kind {
    /// What the stub takes a file of this name for. It does not look at the case of the suffix.
    ///
    /// # Errors
    ///
    /// The rule by which the stub leaves the file alone.
    pub fn taken_by_stub(name: &OsStr) -> Result<Self, NameRule> {
        suffix_for_stub(name).map(|(_, kind)| kind)
    }

    /// Where companions of this kind for all UKIs lie, from the root of the ESP.
    pub fn global_directory(self) -> &'static str {
        match self {
            Self::Credential => "loader/credentials",
            Self::Extension | Self::Confext => "loader/extensions",
            Self::Addon => "loader/addons",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Credential => "credential",
            Self::Extension => "extension",
            Self::Confext => "confext",
            Self::Addon => "addon",
        })
    }
}

/// The suffix of a name the stub takes, in lower case, and what it makes of it.
fn suffix_for_stub(name: &OsStr) -> Result<(&'static str, Kind), NameRule> {
    let name = name
        .to_str()
        .filter(|name| name.is_ascii())
        .ok_or(NameRule::NotAscii)?;
    if name.starts_with('.') {
        return Err(NameRule::LeadingDot);
    }
    if name.len() > LONGEST_NAME {
        return Err(NameRule::TooLong { length: name.len() });
    }
    let lower = name.to_ascii_lowercase();
    SUFFIXES
        .into_iter()
        .find(|(suffix, _)| lower.ends_with(suffix))
        .ok_or(NameRule::Suffix)
}

/// The file name of a companion: one that FAT holds, the stub takes and the initrd uses.
///
/// ```
/// use ukikit_esp::{Kind, Name};
///
/// assert_eq!("iscsi.sysext.raw".parse::<Name>()?.kind(), Kind::Extension);
/// let refused = "ISCSI.RAW".parse::<Name>().unwrap_err().to_string();
/// assert_eq!(refused, "`ISCSI.RAW` cannot be a companion: its suffix has to be `.raw`, in lower case");
/// # Ok::<(), ukikit_esp::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    text: String,
    kind: Kind,
}

impl Name {
    /// The file name itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What its suffix says it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Name {
    type Err = Error;

    /// # Errors
    ///
    /// [`Error::Name`] with the rule it breaks.
    fn from_str(name: &str) -> Result<Self, Error> {
        match kind_of_good_name(name) {
            Ok(kind) => Ok(Self {
                text: name.to_owned(),
                kind,
            }),
            Err(rule) => Err(Error::Name {
                name: name.to_owned(),
                rule,
            }),
        }
    }
}

fn kind_of_good_name(name: &str) -> Result<Kind, NameRule> {
    if name.contains('/') {
        return Err(NameRule::Path);
    }
    let (suffix, kind) = suffix_for_stub(OsStr::new(name))?;
    if let Some(character) = name.chars().find(|&c| !held_by_fat(c)) {
        return Err(NameRule::Character { character });
    }
    if name.starts_with(' ') {
        return Err(NameRule::LeadingSpace);
    }
    if !name.ends_with(suffix) {
        return Err(NameRule::SuffixCase { suffix });
    }
    Ok(kind)
}

/// Whether a long file name on FAT can have the character. Names such as `CON` or `NUL` are the
/// business of one operating system, not of the file system.
pub(crate) fn held_by_fat(character: char) -> bool {
    !character.is_control() && !r#""*/:<>?\|"#.contains(character)
}

/// The rule a file name breaks. As text it goes on from "it cannot be a companion: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameRule {
    /// A slash.
    #[error("it is a path, not a file name")]
    Path,
    /// A dot in front.
    #[error("it begins with a dot, and the stub skips such names")]
    LeadingDot,
    /// A space in front: EDK2's FAT driver strips it from the name it opens.
    #[error("it begins with a space, which the firmware drops when it opens a file")]
    LeadingSpace,
    /// A character beyond ASCII.
    #[error("it is not ASCII, and the stub skips such names")]
    NotAscii,
    /// A control character, or one of `" * : < > ? \ |`.
    #[error("FAT cannot hold the character {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
    /// More than 255 characters.
    #[error("it has {length} characters, and the stub takes at most 255")]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// No suffix the stub knows.
    #[error("it ends in none of .cred, .sysext.raw, .raw, .confext.raw and .addon.efi")]
    Suffix,
    /// The stub takes `.CRED` and `.RAW`, the initrd then ignores them.
    #[error("its suffix has to be `{suffix}`, in lower case")]
    SuffixCase {
        /// What it should be.
        suffix: &'static str,
    },
}

/// A file to be placed: its name and all of its bytes, so that what was verified is what is written.
#[derive(Clone, PartialEq, Eq)]
pub struct Companion {
    name: Name,
    content: Vec<u8>,
}

/// In bytes; FAT keeps the size of a file in 32 bits.
const LARGEST_FILE: u64 = u32::MAX as u64;

impl Companion {
    /// Joins a name and the content of the file.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] for more than 4 GiB less one byte, the most a file on FAT can have.
    pub fn new(name: Name, content: Vec<u8>) -> Result<Self, Error> {
        let size = size(&content);
        if size > LARGEST_FILE {
            return Err(Error::TooLarge {
                name: name.text,
                size,
            });
        }
        Ok(Self { name, content })
    }

    /// Reads a file that will keep its name.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] before it is opened, [`Error::TooLarge`] before it is read, [`Error::Read`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let cannot_read = |source| Error::Read {
            path: path.into(),
            source,
        };
        // What has no file name, such as `..`, is refused like any other bad name.
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name: Name = name.to_string_lossy().parse()?;
        let size = fs::metadata(path).map_err(cannot_read)?.len();
        if size > LARGEST_FILE {
            return Err(Error::TooLarge {
                name: name.text,
                size,
            });
        }
        Self::new(name, fs::read(path).map_err(cannot_read)?)
    }

    /// Its file name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its bytes.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Where it goes, from the root of the ESP.
    pub fn path(&self, target: &Target) -> String {
        format!("{}/{}", target.directory(self.name.kind), self.name)
    }

    pub(crate) fn into_content(self) -> Vec<u8> {
        self.content
    }
}

impl fmt::Debug for Companion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Companion({}, {} bytes)", self.name, self.content.len())
    }
}

pub(crate) fn size(bytes: &[u8]) -> u64 {
    count(bytes.len())
}

pub(crate) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn stub(name: &str) -> Result<Kind, NameRule> {
        Kind::taken_by_stub(OsStr::new(name))
    }

    #[test]
    fn the_stub_takes_what_it_took_in_a_real_boot() {
        let length = 256;
        for (name, expected) in [
            ("10.raw", Ok(Kind::Extension)),
            ("B2.sysext.raw", Ok(Kind::Extension)),
            ("b.RAW", Ok(Kind::Extension)),
            ("D.CONFEXT.RAW", Ok(Kind::Confext)),
            ("x.Confext.Raw", Ok(Kind::Confext)),
            ("c.confext.raw", Ok(Kind::Confext)),
            ("UPPER.Cred", Ok(Kind::Credential)),
            ("with space.cred", Ok(Kind::Credential)),
            ("glob.ADDON.efi", Ok(Kind::Addon)),
            (".hid.raw", Err(NameRule::LeadingDot)),
            (".cred", Err(NameRule::LeadingDot)),
            ("né.cred", Err(NameRule::NotAscii)),
            ("cred", Err(NameRule::Suffix)),
            ("", Err(NameRule::Suffix)),
            ("other.credx", Err(NameRule::Suffix)),
            ("x.raw.gz", Err(NameRule::Suffix)),
            ("50-name.efi", Err(NameRule::Suffix)),
            (&format!("{}.cred", "a".repeat(250)), Ok(Kind::Credential)),
            (
                &format!("{}.cred", "a".repeat(251)),
                Err(NameRule::TooLong { length }),
            ),
        ] {
            assert_eq!(stub(name), expected, "{name}");
        }
    }

    #[test]
    fn takes_good_names() {
        for (name, kind) in [
            ("fstab.extra.cred", Kind::Credential),
            ("with space.cred", Kind::Credential),
            ("CON.cred", Kind::Credential),
            ("nul.raw", Kind::Extension),
            ("iscsi.sysext.raw", Kind::Extension),
            ("iscsi_1.2.raw", Kind::Extension),
            ("net.confext.raw", Kind::Confext),
            ("quiet.addon.efi", Kind::Addon),
        ] {
            let parsed = name.parse::<Name>().unwrap();
            assert_eq!((parsed.as_str(), parsed.kind()), (name, kind));
        }
    }

    #[test]
    fn refuses_with_the_rule() {
        let long = format!("{}.raw", "x".repeat(252));
        let suffixes = "it ends in none of .cred, .sysext.raw, .raw, .confext.raw and .addon.efi";
        for (name, rule) in [
            ("a/b.cred", "it is a path, not a file name"),
            ("", suffixes),
            ("a.efi", suffixes),
            ("a.cred.", suffixes),
            ("a.cred ", suffixes),
            (
                ".a.cred",
                "it begins with a dot, and the stub skips such names",
            ),
            (
                " a.cred",
                "it begins with a space, which the firmware drops when it opens a file",
            ),
            ("ä.cred", "it is not ASCII, and the stub skips such names"),
            ("a\"b.cred", "FAT cannot hold the character '\"'"),
            ("a*.cred", "FAT cannot hold the character '*'"),
            ("a:b.cred", "FAT cannot hold the character ':'"),
            ("a<.cred", "FAT cannot hold the character '<'"),
            ("a>.cred", "FAT cannot hold the character '>'"),
            ("a?.cred", "FAT cannot hold the character '?'"),
            ("a\\b.cred", "FAT cannot hold the character '\\\\'"),
            ("a|b.cred", "FAT cannot hold the character '|'"),
            ("a\nb.cred", "FAT cannot hold the character '\\n'"),
            (
                &long,
                "it has 256 characters, and the stub takes at most 255",
            ),
            ("KEY.CRED", "its suffix has to be `.cred`, in lower case"),
            ("x.Raw", "its suffix has to be `.raw`, in lower case"),
            (
                "x.SYSEXT.raw",
                "its suffix has to be `.sysext.raw`, in lower case",
            ),
            (
                "x.Confext.raw",
                "its suffix has to be `.confext.raw`, in lower case",
            ),
            (
                "x.addon.EFI",
                "its suffix has to be `.addon.efi`, in lower case",
            ),
        ] {
            let refused = name.parse::<Name>().unwrap_err().to_string();
            assert_eq!(refused, format!("`{name}` cannot be a companion: {rule}"));
        }
    }

    #[test]
    fn reads_no_more_than_fat_can_hold() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.raw");
        let file = fs::File::create(&path).unwrap();
        file.set_len(1 << 32).unwrap();
        let refused = Companion::read(&path).unwrap_err().to_string();
        assert_eq!(
            refused,
            "`large.raw` has 4294967296 bytes, and a file on FAT holds at most 4294967295"
        );
        fs::write(&path, "image").unwrap();
        let read = Companion::read(&path).unwrap();
        assert_eq!(
            (read.name().as_str(), read.content()),
            ("large.raw", &b"image"[..])
        );
        assert_eq!(format!("{read:?}"), "Companion(large.raw, 5 bytes)");
    }

    proptest! {
        /// Every good name is one the stub takes for the same thing.
        #[test]
        fn good_names_are_taken(name in ".{0,12}(\\.cred|\\.raw|\\.confext\\.raw|\\.addon\\.efi)?") {
            if let Ok(good) = name.parse::<Name>() {
                prop_assert_eq!(stub(&name), Ok(good.kind()));
            }
        }
    }
}
