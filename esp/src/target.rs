//! Whom a companion is for: one UKI or all of them, and the directory that follows from it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::companion::held_by_fat;
use crate::{Error, Kind};

/// One UKI, or every UKI of the ESP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Target {
    /// The UKI at this path.
    Uki(UkiPath),
    /// All UKIs on the same partition.
    Global,
}

impl Target {
    /// Where companions of a kind lie, from the root of the ESP, without a leading slash.
    pub fn directory(&self, kind: Kind) -> String {
        match self {
            Self::Uki(path) => path.companions(),
            Self::Global => kind.global_directory().to_owned(),
        }
    }

    /// All of its directories.
    pub(crate) fn directories(&self) -> Vec<String> {
        match self {
            Self::Uki(path) => vec![path.companions()],
            Self::Global => [Kind::Credential, Kind::Extension, Kind::Addon]
                .map(|kind| kind.global_directory().to_owned())
                .to_vec(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uki(path) => f.pad(path.as_str()),
            Self::Global => f.pad("global"),
        }
    }
}

/// The path of a UKI on the ESP, from its root, with single slashes and none in front.
///
/// ```
/// let path: ukikit_esp::UkiPath = "/EFI/Linux/vendor+3-1.efi".parse()?;
/// assert_eq!(path.as_str(), "EFI/Linux/vendor+3-1.efi");
/// assert_eq!(path.companions(), "EFI/Linux/vendor.efi.extra.d");
/// # Ok::<(), ukikit_esp::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct UkiPath(String);

/// What the stub appends to the path of its UKI.
const EXTRA_D: &str = ".extra.d";

impl UkiPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of its companions, where the stub will look for it.
    pub fn companions(&self) -> String {
        format!("{}{EXTRA_D}", self.without_counter())
    }

    /// The path without its boot counter, as the stub removes it: the first `+` of the whole path
    /// counts, with a number or two behind it and then the end or a dot; else nothing is removed.
    pub fn without_counter(&self) -> String {
        strip_counter(&self.0, self.0.find('+')).unwrap_or_else(|| self.0.clone())
    }

    /// Whether the boot loader would count in a name from which the stub does not remove the
    /// counter: the directory of the companions would then be another one at every try.
    pub(crate) fn counter_stays(&self) -> bool {
        let path = self.without_counter();
        let file = path.rsplit('/').next().unwrap_or_default();
        strip_counter(file, file.rfind('+')).is_some()
    }

    /// The UKI a directory of companions belongs to, whether there is one or not.
    pub(crate) fn of_companions(directory: &str) -> Option<Self> {
        let end = directory.len().checked_sub(EXTRA_D.len())?;
        let (path, suffix) = directory.split_at_checked(end)?;
        let named = !path.is_empty() && !path.ends_with('/');
        (named && suffix.eq_ignore_ascii_case(EXTRA_D)).then(|| Self(path.to_owned()))
    }

    /// The directory the UKI lies in and its file name.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl fmt::Display for UkiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The file name of a boot entry without the counter in front of its suffix.
pub(crate) fn without_entry_counter(name: &str) -> String {
    strip_counter(name, name.rfind('+')).unwrap_or_else(|| name.to_owned())
}

/// The text without `+LEFT` or `+LEFT-DONE` at `plus`, if that is a counter.
fn strip_counter(text: &str, plus: Option<usize>) -> Option<String> {
    let (head, tail) = text.split_at_checked(plus?)?;
    let mut tail = after_number(tail.strip_prefix('+')?)?;
    if let Some(done) = tail.strip_prefix('-') {
        tail = after_number(done)?;
    }
    (tail.is_empty() || tail.starts_with('.')).then(|| format!("{head}{tail}"))
}

/// What follows a decimal number of at most 64 bits.
fn after_number(text: &str) -> Option<&str> {
    let tail = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(tail)?;
    number.parse::<u64>().ok().map(|_| tail)
}

impl FromStr for UkiPath {
    type Err = Error;

    /// # Errors
    ///
    /// [`Error::UkiPath`] with the rule it breaks.
    fn from_str(path: &str) -> Result<Self, Error> {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let broken = match names.last() {
            None => Some(PathRule::Empty),
            Some(file) => names
                .iter()
                .find_map(|name| broken_rule(name))
                .or_else(|| too_long_with_suffix(file)),
        };
        let joined = Self(names.join("/"));
        match broken.or_else(|| only_counter(&joined)) {
            None => Ok(joined),
            Some(rule) => Err(Error::UkiPath {
                path: path.to_owned(),
                rule,
            }),
        }
    }
}

pub(crate) fn broken_rule(name: &str) -> Option<PathRule> {
    if matches!(name, "." | "..") {
        return Some(PathRule::Dots);
    }
    if let Some(character) = name.chars().find(|&c| !held_by_fat(c)) {
        return Some(PathRule::Character { character });
    }
    if name.starts_with(' ') || name.ends_with([' ', '.']) {
        return Some(PathRule::Edge);
    }
    None
}

/// A name that is gone without its counter leaves no name for the directory of the companions.
fn only_counter(path: &UkiPath) -> Option<PathRule> {
    UkiPath::of_companions(&path.companions())
        .is_none()
        .then_some(PathRule::OnlyCounter)
}

/// FAT counts names in UTF-16.
fn too_long_with_suffix(file: &str) -> Option<PathRule> {
    let length = file.encode_utf16().count() + EXTRA_D.len();
    (length > 255).then_some(PathRule::TooLong { length })
}

/// The rule a path breaks. As text it goes on from "it cannot be the path of a UKI: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathRule {
    /// Nothing but slashes.
    #[error("it names no file")]
    Empty,
    /// Nothing but a boot counter, such as `+3`.
    #[error("without its boot counter it names no file")]
    OnlyCounter,
    /// `.` or `..`
    #[error("it has to go down from the root of the ESP, without `.` and `..`")]
    Dots,
    /// A control character, or one of `" * : < > ? \ |`.
    #[error("FAT cannot hold the character {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
    /// What FAT drivers strip from names.
    #[error("on FAT no name begins with a space or ends in a space or a dot")]
    Edge,
    /// Together with `.extra.d`, in UTF-16 code units.
    #[error(
        "the directory of its companions would have a name of {length} characters, not 255 at most"
    )]
    TooLong {
        /// How many there would be.
        length: usize,
    },
    /// An earlier `+` keeps the stub from removing the boot counter.
    #[error(
        "the stub does not see its boot counter behind an earlier `+`, so its companions would be lost at the next try"
    )]
    CounterStays,
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn path(text: &str) -> UkiPath {
        text.parse().unwrap()
    }

    #[test]
    fn removes_boot_counters_as_the_stub_does() {
        for (uki, companions) in [
            ("EFI/Linux/foo.efi", "EFI/Linux/foo.efi.extra.d"),
            ("EFI/Linux/foo+3.efi", "EFI/Linux/foo.efi.extra.d"),
            ("EFI/Linux/foo+3-0.efi", "EFI/Linux/foo.efi.extra.d"),
            ("EFI/Linux/foo+0-12.efi", "EFI/Linux/foo.efi.extra.d"),
            ("EFI/Linux/foo+3-1", "EFI/Linux/foo.extra.d"),
            ("EFI/Linux/foo+3.1.efi", "EFI/Linux/foo.1.efi.extra.d"),
            ("foo+18446744073709551615.efi", "foo.efi.extra.d"),
            // Not a counter: everything stays.
            ("foo+.efi", "foo+.efi.extra.d"),
            ("foo+a.efi", "foo+a.efi.extra.d"),
            ("foo+3a.efi", "foo+3a.efi.extra.d"),
            ("foo+3-.efi", "foo+3-.efi.extra.d"),
            ("foo+3-1-2.efi", "foo+3-1-2.efi.extra.d"),
            ("foo+-1.efi", "foo+-1.efi.extra.d"),
            (
                "foo+18446744073709551616.efi",
                "foo+18446744073709551616.efi.extra.d",
            ),
            // Only the first plus counts, wherever it is.
            ("foo+bar+3-1.efi", "foo+bar+3-1.efi.extra.d"),
            ("foo+1+3-1.efi", "foo+1+3-1.efi.extra.d"),
            ("EFI/a+b/foo+3-1.efi", "EFI/a+b/foo+3-1.efi.extra.d"),
            ("EFI/a+1/foo+3-1.efi", "EFI/a+1/foo+3-1.efi.extra.d"),
            ("EFI/a+1.d/foo+3-1.efi", "EFI/a.d/foo+3-1.efi.extra.d"),
            ("EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/BOOTX64.EFI.extra.d"),
        ] {
            assert_eq!(path(uki).companions(), companions, "{uki}");
        }
    }

    #[test]
    fn knows_when_the_loader_counts_where_the_stub_does_not() {
        for (uki, expected) in [
            ("foo+3-1.efi", false),
            ("foo+bar.efi", false),
            ("EFI/a+b/foo.efi", false),
            ("foo+bar+3-1.efi", true),
            ("EFI/a+b/foo+3-1.efi", true),
            ("EFI/a+1.d/foo+3-1.efi", true),
        ] {
            assert_eq!(path(uki).counter_stays(), expected, "{uki}");
        }
    }

    #[test]
    fn places_by_kind() {
        let one = Target::Uki(path("EFI/Linux/a.efi"));
        for (kind, global) in [
            (Kind::Credential, "loader/credentials"),
            (Kind::Extension, "loader/extensions"),
            (Kind::Confext, "loader/extensions"),
            (Kind::Addon, "loader/addons"),
        ] {
            assert_eq!(one.directory(kind), "EFI/Linux/a.efi.extra.d");
            assert_eq!(Target::Global.directory(kind), global);
        }
    }

    #[test]
    fn takes_paths_as_people_write_them() {
        for text in ["/EFI/Linux/a.efi", "EFI//Linux/a.efi", "EFI/Linux/a.efi/"] {
            assert_eq!(path(text).as_str(), "EFI/Linux/a.efi");
        }
        assert_eq!(path("é.efi").as_str(), "é.efi");
    }

    #[test]
    fn refuses_paths_fat_cannot_hold() {
        let edge = "on FAT no name begins with a space or ends in a space or a dot";
        let long = "x".repeat(248);
        for (text, rule) in [
            ("", "it names no file"),
            ("//", "it names no file"),
            ("+3", "without its boot counter it names no file"),
            (
                "EFI/Linux/+3-1",
                "without its boot counter it names no file",
            ),
            (
                "EFI/../a.efi",
                "it has to go down from the root of the ESP, without `.` and `..`",
            ),
            ("\\EFI\\a.efi", "FAT cannot hold the character '\\\\'"),
            ("a\0.efi", "FAT cannot hold the character '\\0'"),
            ("EFI./a.efi", edge),
            ("EFI / a.efi", edge),
            ("a.efi ", edge),
            (
                &long,
                "the directory of its companions would have a name of 256 characters, not 255 at most",
            ),
        ] {
            let refused = text.parse::<UkiPath>().unwrap_err().to_string();
            assert_eq!(
                refused,
                format!("`{text}` cannot be the path of a UKI: {rule}")
            );
        }
    }

    proptest! {
        /// Any text is a path or refused, and the directory is that of the path without its counter.
        #[test]
        fn any_path(text in "[a-zA-Z0-9+./ é-]{0,20}") {
            if let Ok(path) = text.parse::<UkiPath>() {
                let owner = UkiPath::of_companions(&path.companions()).unwrap();
                prop_assert_eq!(owner.0, path.without_counter());
            }
        }
    }
}
