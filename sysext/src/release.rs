//! Release files: `extension-release.NAME` inside an extension and the `os-release` it must fit, after
//! os-release(5) and systemd's `extension-util.c`.

mod syntax;

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::{Architecture, Designator, Error, FormatError};

/// The fields of a release file, in their order. Shown as such a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release(Vec<(String, String)>);

impl Release {
    /// Reads a file as systemd does: lines without `=` mean nothing, the last of several equal keys counts.
    ///
    /// # Errors
    ///
    /// [`FormatError`] where the text is not UTF-8.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(file)
            .map_err(|error| FormatError::new(error.valid_up_to() as u64, "is not UTF-8"))?;
        let mut release = Self::default();
        for (key, value) in syntax::parse(text) {
            release.put(&key, &value);
        }
        Ok(release)
    }

    /// The value of `key`; an empty one counts as none, as in systemd.
    pub fn value(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Sets `key`, in its place if it is there already.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for a key that is not made of `A-Z`, `0-9` and `_`, and a value with control
    /// characters.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if key.is_empty() || !key.bytes().all(good) {
            let what = format!("release field `{key}` is not made of A-Z, 0-9 and _");
            return Err(Error::value(what));
        }
        if value.chars().any(char::is_control) {
            let what = format!("release field `{key}` has a control character in its value");
            return Err(Error::value(what));
        }
        self.put(key, value);
        Ok(())
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some(field) => value.clone_into(&mut field.1),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }

    /// The fields that make an extension match `base`: its `ID`, and its level or else its version.
    /// Without a base, `ID=_any`.
    pub(crate) fn fitting(base: Option<&Self>, class: ImageClass) -> Self {
        let Some((base, id)) = base.and_then(|base| Some((base, base.value("ID")?))) else {
            return Self(vec![("ID".into(), "_any".into())]);
        };
        let mut release = Self(vec![("ID".into(), id.into())]);
        for key in [class.level_field(), "VERSION_ID"] {
            if let Some(value) = base.value(key) {
                release.put(key, value);
                break;
            }
        }
        release
    }

    /// Why an extension with this release file would be ignored on `base`.
    pub fn mismatch(&self, base: &Self, class: ImageClass) -> Option<String> {
        let id = self.value("ID")?;
        if id == "_any" {
            return None;
        }
        let base_id = base.value("ID").unwrap_or_default();
        let like = base.value("ID_LIKE").unwrap_or_default();
        if id != base_id && !like.split_whitespace().any(|other| other == id) {
            return Some(format!("ID={id}, the base has ID={base_id}"));
        }
        let level = class.level_field();
        let key = match (self.value(level), base.value(level)) {
            (Some(_), Some(_)) => level,
            _ => "VERSION_ID",
        };
        match (self.value(key), base.value(key)) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Some(format!("{key}={ours}, the base has {key}={theirs}"))
            }
            (None, Some(theirs)) => Some(format!("has no {key}=, the base has {key}={theirs}")),
            _ => None,
        }
    }

    /// Where an extension with this release file is for.
    pub fn scopes(&self, class: ImageClass) -> Vec<&str> {
        self.value(class.scope_field())
            .map_or(vec!["system", "portable"], |list| {
                list.split_whitespace().collect()
            })
    }

    /// Why an extension with this release file would be ignored on a machine of that architecture.
    pub fn foreign_to(&self, architecture: Architecture) -> Option<String> {
        self.value("ARCHITECTURE")
            .filter(|&own| own != "_any" && own != architecture.as_str())
            .map(|own| format!("ARCHITECTURE={own}, not {architecture}"))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter()
            .try_for_each(|(key, value)| writeln!(f, "{key}={}", syntax::quote(value)))
    }
}

impl Serialize for Release {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// What an extension extends; systemd's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ImageClass {
    /// `/usr` and `/opt`.
    #[default]
    Sysext,
    /// `/etc`.
    Confext,
}

impl ImageClass {
    /// `sysext` or `confext`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sysext => "sysext",
            Self::Confext => "confext",
        }
    }

    /// The directory of release files, as a path in the data partition.
    pub(crate) const fn release_directory(self, designator: Designator) -> &'static str {
        match (self, designator) {
            (Self::Sysext, Designator::Root) => "usr/lib/extension-release.d",
            (Self::Sysext, Designator::Usr) => "lib/extension-release.d",
            (Self::Confext, _) => "etc/extension-release.d",
        }
    }

    pub(crate) const fn level_field(self) -> &'static str {
        match self {
            Self::Sysext => "SYSEXT_LEVEL",
            Self::Confext => "CONFEXT_LEVEL",
        }
    }

    /// The field of a release file that says where an extension is for.
    pub const fn scope_field(self) -> &'static str {
        match self {
            Self::Sysext => "SYSEXT_SCOPE",
            Self::Confext => "CONFEXT_SCOPE",
        }
    }
}

impl fmt::Display for ImageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ImageClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Where an extension is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The initrd.
    Initrd,
    /// The running system.
    System,
    /// Portable services.
    Portable,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Initrd, Self::System, Self::Portable];

    /// As `SYSEXT_SCOPE=` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initrd => "initrd",
            Self::System => "system",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|known| known.as_str() == text);
        named.ok_or_else(|| {
            Error::value(format!(
                "scope `{text}` is none of initrd, system, portable"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text.replace(' ', "\n").as_bytes()).unwrap()
    }

    #[test]
    fn matches_as_systemd_does() {
        for (extension, base, expected) in [
            ("ID=_any VERSION_ID=7", "ID=debian VERSION_ID=12", None),
            ("ID=debian VERSION_ID=12", "ID=debian VERSION_ID=12", None),
            ("ID=debian VERSION_ID=12", "ID=debian", None),
            ("ID=debian", "ID=debian", None),
            ("ID=debian", "ID=ubuntu ID_LIKE=debian", None),
            (
                "ID=debian SYSEXT_LEVEL=1",
                "ID=debian SYSEXT_LEVEL=1 VERSION_ID=12",
                None,
            ),
            (
                "ID=fedora",
                "ID=debian VERSION_ID=12",
                Some("ID=fedora, the base has ID=debian"),
            ),
            (
                "ID=debian VERSION_ID=13",
                "ID=debian VERSION_ID=12",
                Some("VERSION_ID=13, the base has VERSION_ID=12"),
            ),
            (
                "ID=debian SYSEXT_LEVEL=1",
                "ID=debian VERSION_ID=12",
                Some("has no VERSION_ID=, the base has VERSION_ID=12"),
            ),
            (
                "ID=debian SYSEXT_LEVEL=1 VERSION_ID=12",
                "ID=debian SYSEXT_LEVEL=2 VERSION_ID=12",
                Some("SYSEXT_LEVEL=1, the base has SYSEXT_LEVEL=2"),
            ),
        ] {
            let mismatch = release(extension).mismatch(&release(base), ImageClass::Sysext);
            assert_eq!(mismatch.as_deref(), expected, "{extension} on {base}");
        }
    }

    #[test]
    fn what_is_taken_from_a_base_fits_it() {
        for (base, expected) in [
            ("ID=debian VERSION_ID=12", "ID=debian VERSION_ID=12 "),
            (
                "ID=debian VERSION_ID=12 SYSEXT_LEVEL=3",
                "ID=debian SYSEXT_LEVEL=3 ",
            ),
            ("ID=arch", "ID=arch "),
            ("NAME=x", "ID=_any "),
        ] {
            let base = release(base);
            let fitting = Release::fitting(Some(&base), ImageClass::Sysext);
            assert_eq!(fitting.to_string().replace('\n', " "), expected);
            assert_eq!(fitting.mismatch(&base, ImageClass::Sysext), None);
        }
        assert_eq!(
            Release::fitting(None, ImageClass::Sysext).to_string(),
            "ID=_any\n"
        );
    }

    #[test]
    fn scopes_have_systemds_default() {
        let class = ImageClass::Sysext;
        assert_eq!(release("ID=x").scopes(class), ["system", "portable"]);
        let given = Release::parse(b"SYSEXT_SCOPE=\"initrd system\"").unwrap();
        assert_eq!(given.scopes(class), ["initrd", "system"]);
        assert_eq!(given.scopes(ImageClass::Confext), ["system", "portable"]);
    }

    #[test]
    fn architectures_are_compared_when_set() {
        let foreign = |text| release(text).foreign_to(Architecture::X86_64);
        assert_eq!(foreign("ID=x"), None);
        assert_eq!(foreign("ARCHITECTURE=_any"), None);
        assert_eq!(foreign("ARCHITECTURE=x86-64"), None);
        assert_eq!(
            foreign("ARCHITECTURE=arm64").as_deref(),
            Some("ARCHITECTURE=arm64, not x86-64")
        );
    }

    #[test]
    fn only_good_fields_are_set() {
        let mut release = Release::default();
        release.set("ID", "a b").unwrap();
        assert_eq!(release.to_string(), "ID=\"a b\"\n");
        for (key, value, expected) in [
            ("", "x", "release field `` is not made of A-Z, 0-9 and _"),
            (
                "id",
                "x",
                "release field `id` is not made of A-Z, 0-9 and _",
            ),
            (
                "ID",
                "a\nb",
                "release field `ID` has a control character in its value",
            ),
        ] {
            assert_eq!(release.set(key, value).unwrap_err().to_string(), expected);
        }
        let error = Release::parse(b"ID=\xff").unwrap_err();
        assert_eq!(error.to_string(), "at byte 3: is not UTF-8");
    }
}
