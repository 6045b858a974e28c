//! What an extension may hold, and what systemd looks for in it. One set of rules for what is built and for
//! what is verified.

use crate::finding::Findings;
use crate::{
    Architecture, Check, Designator, Error, FormatError, ImageClass, Kind, Release, Scope, Tree,
    escape, name,
};

/// Release files are a few lines; more is not read.
const RELEASE_MAX: usize = 64 * 1024;
const XATTR_STRICT: &[u8] = b"user.extension-release.strict";

/// What an extension has to fit. What is `None` or empty is not checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules<'a> {
    /// The image's file name, which tells the extension's name.
    pub(crate) file_name: Option<&'a str>,
    pub(crate) base: Option<&'a Release>,
    pub(crate) scopes: &'a [Scope],
    pub(crate) architecture: Option<Architecture>,
}

/// The class and release file of an extension.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) class: ImageClass,
    /// In the data partition.
    pub(crate) path: String,
    pub(crate) release: Release,
}

/// Checks all rules over the files of a data partition that belongs at `designator`.
pub(crate) fn check(
    tree: &Tree,
    designator: Designator,
    rules: &Rules<'_>,
    findings: &mut Findings,
) -> Result<(), Error> {
    let found = identity(tree, designator, rules.file_name);
    let class = match &found {
        Ok(identity) => identity.class,
        Err(_) => class_of(tree, designator, rules.file_name),
    };
    let identity = findings.keep(found)?;
    check_places(tree, designator, class, findings);
    if let Some(identity) = identity {
        check_release(&identity, rules, findings);
    }
    Ok(())
}

/// Finds the release file, as systemd does for an image of that file name; without one, the only one.
///
/// # Errors
///
/// [`Error::Refused`] when there is none, more than one, or it cannot be read.
pub(crate) fn identity(
    tree: &Tree,
    designator: Designator,
    file_name: Option<&str>,
) -> Result<Identity, Error> {
    let class = class_of(tree, designator, file_name);
    let directory = class.release_directory(designator);
    let wanted = match file_name.map(|file_name| (file_name, name::of_file(file_name))) {
        None => None,
        Some((_, Some((name, _)))) => Some(name),
        Some((file_name, None)) => {
            return Err(refused(
                file_name,
                "file name does not end in .raw, as an image's must",
            ));
        }
    };
    let path = release_path(tree, directory, wanted)?;
    let release = read_release(tree, &path)?;
    Ok(Identity {
        class,
        path,
        release,
    })
}

/// By the suffix of the file name, else by the release files that are there.
fn class_of(tree: &Tree, designator: Designator, file_name: Option<&str>) -> ImageClass {
    let told = file_name
        .and_then(name::of_file)
        .and_then(|(_, class)| class);
    told.unwrap_or_else(|| {
        let has = |class: ImageClass| tree.get(class.release_directory(designator)).is_some();
        if has(ImageClass::Confext) && !has(ImageClass::Sysext) {
            ImageClass::Confext
        } else {
            ImageClass::Sysext
        }
    })
}

fn release_path(tree: &Tree, directory: &str, wanted: Option<&str>) -> Result<String, Error> {
    let prefix = format!("{directory}/extension-release.");
    let exact = wanted.map(|name| format!("{prefix}{name}"));
    if let Some(path) = exact
        .as_ref()
        .filter(|path| tree.get(path.as_str()).is_some())
    {
        return Ok(path.clone());
    }
    let cut = wanted.and_then(|name| name.split(['_', '+']).next());
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    for (suffix, lax) in release_files(tree, &prefix) {
        let fits = lax || cut.is_none_or(|cut| cut == suffix);
        if fits { &mut fitting } else { &mut others }.push(format!("{prefix}{suffix}"));
    }
    match (fitting.as_slice(), others.as_slice()) {
        ([path], _) => Ok(path.clone()),
        ([], []) => Err(refused(exact.unwrap_or(prefix + "NAME"), "does not exist")),
        ([], [other, ..]) => {
            let what = format!("does not exist, only `{other}` does");
            Err(refused(exact.unwrap_or(prefix + "NAME"), what))
        }
        (several, _) => {
            let what = format!("`{}` could all be meant", several.join("`, `"));
            Err(refused(directory, what))
        }
    }
}

/// The names that release files are for, and whether each serves an image of any name.
fn release_files<'a>(tree: &'a Tree, prefix: &str) -> impl Iterator<Item = (&'a str, bool)> {
    tree.iter().filter_map(move |(path, entry)| {
        let suffix = std::str::from_utf8(path).ok()?.strip_prefix(prefix)?;
        let strict = entry.xattrs.get(XATTR_STRICT);
        (!suffix.contains('/')).then(|| (suffix, strict.is_some_and(|value| is_false(value))))
    })
}

/// systemd's words for a boolean that is not true.
fn is_false(value: &[u8]) -> bool {
    let words: [&[u8]; 6] = [b"0", b"no", b"n", b"false", b"f", b"off"];
    words.iter().any(|word| word.eq_ignore_ascii_case(value))
}

fn read_release(tree: &Tree, path: &str) -> Result<Release, Error> {
    let resolved = tree.resolve(path);
    let Some(Kind::File(content)) = resolved
        .and_then(|path| tree.get(path))
        .map(|entry| &entry.kind)
    else {
        return Err(refused(path, "is not a regular file"));
    };
    let text = content
        .read(RELEASE_MAX)
        .map_err(|error| refused(path, with_cause(&error)))?;
    Release::parse(&text).map_err(|error: FormatError| refused(path, error.to_string()))
}

/// An error and what caused it, in one line.
pub(crate) fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Only some directories are merged; the rest of an extension has no effect, or a bad one.
fn check_places(tree: &Tree, designator: Designator, class: ImageClass, findings: &mut Findings) {
    let mut refuse = |path: &str, what: String| findings.add(Check::Content, path, what);
    let (os_release, merged): (_, &[&str]) = match (class, designator) {
        (ImageClass::Sysext, Designator::Root) => ("usr/lib/os-release", &["usr", "opt"]),
        (ImageClass::Confext, Designator::Root) => ("usr/lib/os-release", &["etc"]),
        (ImageClass::Sysext, Designator::Usr) => ("lib/os-release", &[]),
        (ImageClass::Confext, Designator::Usr) => {
            refuse(
                "/",
                "is a usr partition, which a confext cannot have".into(),
            );
            return;
        }
    };
    if tree.get(os_release).is_some() {
        refuse(
            os_release,
            "makes this an operating system, not an extension".into(),
        );
    }
    if designator == Designator::Usr {
        return;
    }
    for (path, entry) in tree.iter() {
        let path = escape(path);
        if path.is_empty() || path.contains('/') {
            continue;
        }
        if !merged.contains(&&*path) {
            refuse(
                &path,
                format!(
                    "is not merged from a {class}, only {}",
                    merged.join(" and ")
                ),
            );
        } else if !entry.is_directory() {
            refuse(&path, "is not a directory".into());
        }
    }
    for (path, entry) in tree.iter().filter(|(path, _)| is_shared(path)) {
        if entry.is_directory() && entry.mode & OPEN != OPEN {
            refuse(&escape(path), closed(entry.mode));
        }
    }
}

/// A merged directory has the mode of the topmost extension that has it, so all must be able to list and enter it.
pub(crate) const OPEN: u16 = 0o755;

/// What is said of a directory that is not [`OPEN`].
pub(crate) fn closed(mode: u16) -> String {
    format!(
        "has mode {mode:04o}, which would close it to others once it is merged; 0755 is the least"
    )
}

/// Directories that every system has, also below what an extension may hold.
pub(crate) fn is_shared(path: &[u8]) -> bool {
    let usr = path.strip_prefix(b"usr/").unwrap_or_default();
    let usr: &[u8] = usr.strip_prefix(b"local/").unwrap_or(usr);
    let unit_directories: [&[u8]; 4] = [
        b"lib/systemd",
        b"lib/systemd/system",
        b"lib/systemd/user",
        b"lib/udev",
    ];
    matches!(path, b"usr" | b"opt" | b"etc" | b"usr/local")
        || matches!(
            usr,
            b"bin"
                | b"sbin"
                | b"lib"
                | b"lib64"
                | b"libexec"
                | b"share"
                | b"include"
                | b"lib/modules"
        )
        || unit_directories.contains(&usr)
}

fn check_release(identity: &Identity, rules: &Rules<'_>, findings: &mut Findings) {
    let Identity {
        class,
        path,
        release,
    } = identity;
    let mut refuse = |what: String| findings.add(Check::Content, path.as_str(), what);
    if release.value("ID").is_none() {
        refuse("has no ID=".into());
    }
    if let Some(what) = rules.base.and_then(|base| release.mismatch(base, *class)) {
        refuse(what);
    }
    let scopes = release.scopes(*class);
    for scope in rules.scopes {
        if !scopes.contains(&scope.as_str()) {
            let (field, own) = (class.scope_field(), scopes.join(" "));
            refuse(match release.value(field) {
                Some(_) => format!("{field}={own}, without {scope}"),
                None => format!("has no {field}=, which means {own}, without {scope}"),
            });
        }
    }
    if let Some(what) = rules
        .architecture
        .and_then(|target| release.foreign_to(target))
    {
        refuse(what);
    }
}

fn refused(place: impl Into<String>, what: impl Into<String>) -> Error {
    crate::Finding::new(Check::Content, place, what).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, text) in files {
            tree.insert(path, Entry::file(*text)).unwrap();
        }
        tree
    }

    fn findings(tree: &Tree, designator: Designator, rules: &Rules<'_>) -> Vec<String> {
        let mut findings = Findings::default();
        check(tree, designator, rules, &mut findings).unwrap();
        findings
            .into_vec()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    const DEMO: &str = "usr/lib/extension-release.d/extension-release.demo";

    #[test]
    fn the_release_file_is_found_by_the_file_name() {
        let mut lax = tree(&[(
            "usr/lib/extension-release.d/extension-release.other",
            "ID=_any",
        )]);
        let other = lax
            .get_mut("usr/lib/extension-release.d/extension-release.other")
            .unwrap();
        other.xattrs.insert(XATTR_STRICT.to_vec(), b"0".to_vec());
        let plain = tree(&[(DEMO, "ID=_any")]);
        let versioned = tree(&[
            (DEMO, "ID=_any"),
            (
                "usr/lib/extension-release.d/extension-release.demo_1",
                "ID=_any",
            ),
        ]);
        let mut both = lax.clone();
        both.insert(DEMO, Entry::file("ID=_any")).unwrap();
        for (tree, file_name, expected) in [
            (&plain, Some("demo.raw"), DEMO),
            (&plain, Some("demo_1.2.sysext.raw"), DEMO),
            (&plain, Some("demo+3-1.raw"), DEMO),
            (&plain, None, DEMO),
            (
                &versioned,
                Some("demo_1.raw"),
                "usr/lib/extension-release.d/extension-release.demo_1",
            ),
            (
                &lax,
                Some("demo.raw"),
                "usr/lib/extension-release.d/extension-release.other",
            ),
            (&both, Some("demo.raw"), DEMO),
        ] {
            let found = identity(tree, Designator::Root, file_name).unwrap();
            assert_eq!(found.path, expected, "{file_name:?}");
        }
        for (tree, file_name, expected) in [
            (
                &plain,
                "other.raw",
                "usr/lib/extension-release.d/extension-release.other: does not exist, only `usr/lib/extension-release.d/extension-release.demo` does",
            ),
            (
                &plain,
                "demo.confext.raw",
                "etc/extension-release.d/extension-release.demo: does not exist",
            ),
            (
                &plain,
                "demo.img",
                "demo.img: file name does not end in .raw, as an image's must",
            ),
            (
                &both,
                "demo_7.raw",
                "usr/lib/extension-release.d: `usr/lib/extension-release.d/extension-release.demo`, \
                 `usr/lib/extension-release.d/extension-release.other` could all be meant",
            ),
        ] {
            let error = identity(tree, Designator::Root, Some(file_name)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_usr_partition_has_its_files_one_level_up() {
        let tree = tree(&[("lib/extension-release.d/extension-release.demo", "ID=_any")]);
        let rules = Rules {
            file_name: Some("demo.raw"),
            ..Rules::default()
        };
        assert_eq!(findings(&tree, Designator::Usr, &rules), [""; 0]);
        assert_eq!(
            findings(&tree, Designator::Root, &rules),
            [
                "usr/lib/extension-release.d/extension-release.demo: does not exist",
                "lib: is not merged from a sysext, only usr and opt"
            ]
        );
    }

    #[test]
    fn every_rule_speaks_for_itself() {
        let base = Release::parse(b"ID=debian\nVERSION_ID=12").unwrap();
        let rules = Rules {
            file_name: Some("demo.raw"),
            base: Some(&base),
            scopes: &[Scope::Initrd],
            architecture: Some(Architecture::X86_64),
        };
        for (files, expected) in [
            (vec![(DEMO, "ID=_any\nSYSEXT_SCOPE=initrd")], vec![]),
            (
                vec![(DEMO, "SYSEXT_SCOPE=initrd")],
                vec!["usr/lib/extension-release.d/extension-release.demo: has no ID="],
            ),
            (
                vec![(DEMO, "ID=_any")],
                vec![
                    "usr/lib/extension-release.d/extension-release.demo: \
                     has no SYSEXT_SCOPE=, which means system portable, without initrd",
                ],
            ),
            (
                vec![
                    (DEMO, "ID=fedora\nSYSEXT_SCOPE=system\nARCHITECTURE=arm64"),
                    ("opt", "file"),
                    ("srv/x", ""),
                    ("usr/lib/os-release", ""),
                ],
                vec![
                    "usr/lib/os-release: makes this an operating system, not an extension",
                    "opt: is not a directory",
                    "srv: is not merged from a sysext, only usr and opt",
                    "usr/lib/extension-release.d/extension-release.demo: ID=fedora, the base has ID=debian",
                    "usr/lib/extension-release.d/extension-release.demo: SYSEXT_SCOPE=system, without initrd",
                    "usr/lib/extension-release.d/extension-release.demo: ARCHITECTURE=arm64, not x86-64",
                ],
            ),
        ] {
            assert_eq!(findings(&tree(&files), Designator::Root, &rules), expected);
        }
    }
}
