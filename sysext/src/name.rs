//! The name of an extension, and how a file name tells it.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ImageClass};

/// The longest name whose release file `extension-release.NAME` still has a name.
const LENGTH_MAX: usize = 255 - "extension-release.".len();

/// An extension's name: printable ASCII without `/`, `_` and `+`, at most 237 characters. The last two
/// begin a version or a boot counter in a file name, so which release file belongs to it would be open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that an image of this extension may have this file name: `NAME.sysext.raw` or `NAME.raw`,
    /// for a confext `NAME.confext.raw` or `NAME.raw`.
    ///
    /// # Errors
    ///
    /// [`Error::Value`]: the file name decides which release file is read, none would be found.
    pub fn check_file_name(&self, file_name: &str, class: ImageClass) -> Result<(), Error> {
        let names = [format!("{self}.{class}.raw"), format!("{self}.raw")];
        if names.iter().any(|name| name == file_name) {
            return Ok(());
        }
        let [long, short] = names;
        Err(Error::value(format!(
            "file name `{file_name}` is neither `{long}` nor `{short}`, as extension `{self}` needs"
        )))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let ambiguous = text.find(['_', '+']).and_then(|at| text.get(at..=at));
        let what = if text.is_empty() {
            "is empty".to_owned()
        } else if text.len() > LENGTH_MAX {
            format!("is longer than {LENGTH_MAX} characters")
        } else if text.starts_with('.') {
            "starts with a dot".into()
        } else if let Some(found) = ambiguous {
            format!("has a `{found}`, which begins the version in a file name")
        } else if let Some(found) = text.chars().find(|char| !char.is_ascii_graphic()) {
            format!("has {found:?}; only printable ASCII is read from the boot partition")
        } else if text.contains('/') {
            "has a slash".into()
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(Error::value(format!(
            "extension name `{}` {what}",
            text.escape_debug()
        )))
    }
}

/// The name in a file name, version and counter still on it, and the class if the suffix tells it. `None`
/// when it does not end in `.raw`.
pub(crate) fn of_file(file_name: &str) -> Option<(&str, Option<ImageClass>)> {
    let stem = file_name.strip_suffix(".raw")?;
    for class in [ImageClass::Sysext, ImageClass::Confext] {
        let name = stem.strip_suffix(class.as_str());
        if let Some(name) = name.and_then(|name| name.strip_suffix('.')) {
            return Some((name, Some(class)));
        }
    }
    Some((stem, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_mean_one_thing_are_taken() {
        for good in ["a", "iscsi-boot", "a.b", "1"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let long = "a".repeat(238);
        for (bad, expected) in [
            ("", "extension name `` is empty"),
            (".a", "extension name `.a` starts with a dot"),
            ("a/b", "extension name `a/b` has a slash"),
            (
                "a_1",
                "extension name `a_1` has a `_`, which begins the version in a file name",
            ),
            (
                "a+3",
                "extension name `a+3` has a `+`, which begins the version in a file name",
            ),
            (
                "a b",
                "extension name `a b` has ' '; only printable ASCII is read from the boot partition",
            ),
            (
                "\u{e9}",
                "extension name `\u{e9}` has '\u{e9}'; only printable ASCII is read from the boot partition",
            ),
        ] {
            assert_eq!(bad.parse::<Name>().unwrap_err().to_string(), expected);
        }
        let error = long.parse::<Name>().unwrap_err().to_string();
        assert!(error.ends_with("is longer than 237 characters"), "{error}");
    }

    #[test]
    fn file_names_have_to_tell_the_name() {
        let name: Name = "demo".parse().unwrap();
        for (class, good) in [
            (ImageClass::Sysext, ["demo.sysext.raw", "demo.raw"]),
            (ImageClass::Confext, ["demo.confext.raw", "demo.raw"]),
        ] {
            for file_name in good {
                name.check_file_name(file_name, class).unwrap();
            }
        }
        let error = name
            .check_file_name("demo.confext.raw", ImageClass::Sysext)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "file name `demo.confext.raw` is neither `demo.sysext.raw` nor `demo.raw`, as extension `demo` needs"
        );
    }

    #[test]
    fn names_are_found_in_file_names() {
        for (file_name, expected) in [
            ("a.raw", Some(("a", None))),
            (
                "a_1.2.sysext.raw",
                Some(("a_1.2", Some(ImageClass::Sysext))),
            ),
            ("a.confext.raw", Some(("a", Some(ImageClass::Confext)))),
            ("sysext.raw", Some(("sysext", None))),
            ("a.img", None),
        ] {
            assert_eq!(of_file(file_name), expected);
        }
    }
}
