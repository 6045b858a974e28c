//! The merged tree: layers of an overlay in version order, and where they hide one another's files.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use ukikit_sysext::{Entry, Kind, Tree};

use super::Extension;

/// Systemd's version order of names (`strverscmp_improved`, UAPI.10): runs of digits compare as numbers, runs of letters
/// by byte, `~` is before everything, then the end, `-`, `^` and `.`.
pub fn version_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let skip = |text: &mut &[u8]| {
            let junk = |byte: u8| !byte.is_ascii_alphanumeric() && !b"~-^.".contains(&byte);
            let start = text.iter().take_while(|&&byte| junk(byte)).count();
            *text = text.get(start..).unwrap_or_default();
        };
        skip(&mut a);
        skip(&mut b);
        if let order @ (Ordering::Less | Ordering::Greater) = marks(&mut a, &mut b) {
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        let digits = |byte: u8| byte.is_ascii_digit();
        let order = if a.first().is_some_and(|&byte| digits(byte))
            || b.first().is_some_and(|&byte| digits(byte))
        {
            numbers(run(&mut a, digits), run(&mut b, digits))
        } else {
            let letters = |byte: u8| byte.is_ascii_alphabetic();
            run(&mut a, letters).cmp(run(&mut b, letters))
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The marks that part versions, each above the one in front of it; the end of the text is between `~` and `-`.
fn marks(a: &mut &[u8], b: &mut &[u8]) -> Ordering {
    for (mark, present) in [
        (b'~', Ordering::Less),
        (0, Ordering::Less),
        (b'-', Ordering::Less),
        (b'^', Ordering::Less),
        (b'.', Ordering::Less),
    ] {
        if mark == 0 {
            match (a.is_empty(), b.is_empty()) {
                (true, true) => return Ordering::Equal,
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (false, false) => continue,
            }
        }
        match (a.first() == Some(&mark), b.first() == Some(&mark)) {
            (true, true) => {
                *a = a.get(1..).unwrap_or_default();
                *b = b.get(1..).unwrap_or_default();
                return Ordering::Equal;
            }
            (true, false) => return present,
            (false, true) => return present.reverse(),
            (false, false) => {}
        }
    }
    Ordering::Equal
}

/// Takes the bytes in front that are of one kind.
fn run<'a>(text: &mut &'a [u8], of_kind: impl Fn(u8) -> bool) -> &'a [u8] {
    let end = text.iter().take_while(|&&byte| of_kind(byte)).count();
    let (taken, rest) = text.split_at_checked(end).unwrap_or_default();
    *text = rest;
    taken
}

fn numbers(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |run: &[u8]| {
        let zeros = run.iter().take_while(|&&byte| byte == b'0').count();
        run.get(zeros..).unwrap_or_default().to_vec()
    };
    (!a.is_empty()).cmp(&!b.is_empty()).then_with(|| {
        let (a, b) = (significant(a), significant(b));
        a.len().cmp(&b.len()).then(a.cmp(&b))
    })
}

/// A path that two layers have with different content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The path in the merged tree.
    pub path: String,
    /// The file on the ESP whose content is hidden.
    pub below: String,
    /// The file on the ESP whose content counts.
    pub above: String,
}

/// Paths that more than one of these extensions have, other than directories, with different content. The last extension is on top.
pub fn conflicts<'a>(extensions: impl Iterator<Item = &'a Extension>) -> Vec<Conflict> {
    let mut seen: BTreeMap<&[u8], (&Extension, &Entry)> = BTreeMap::new();
    let mut found = Vec::new();
    for extension in extensions {
        for (path, entry) in extension.tree.iter() {
            if entry.is_directory() || is_release_file(path) {
                continue;
            }
            if let Some((below, other)) = seen.insert(path, (extension, entry))
                && !same(entry, other)
            {
                found.push(Conflict {
                    path: String::from_utf8_lossy(path).into_owned(),
                    below: below.file.path.clone(),
                    above: extension.file.path.clone(),
                });
            }
        }
    }
    found
}

/// In bytes; larger files are compared up to here.
const COMPARED: usize = 64 << 20;

/// Whether two entries are the same to whoever reads them.
pub(crate) fn same(a: &Entry, b: &Entry) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::File(a), Kind::File(b)) => {
            matches!((a.read(COMPARED), b.read(COMPARED)), (Ok(a), Ok(b)) if a == b)
        }
        (Kind::Symlink(a), Kind::Symlink(b)) => a == b,
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

fn is_release_file(path: &[u8]) -> bool {
    path.windows(18).any(|part| part == b"extension-release.")
}

/// The content of a text file, up to 1 MiB; symbolic links are followed.
pub(crate) fn text(tree: &Tree, path: &str) -> Option<String> {
    const LONGEST: usize = 1 << 20;
    let path = tree.resolve(path)?;
    match &tree.get(&path)?.kind {
        Kind::File(content) => {
            let bytes = content.read(LONGEST).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_versions() {
        // The examples of the version format specification, and names as extensions have them.
        let ascending = [
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for pair in ascending.windows(2) {
            let [low, high] = pair else { unreachable!() };
            assert_eq!(version_order(low, high), Ordering::Less, "{low} {high}");
            assert_eq!(version_order(high, low), Ordering::Greater, "{low} {high}");
        }
        for (a, b, order) in [
            ("a", "a", Ordering::Equal),
            ("10", "9", Ordering::Greater),
            ("iscsi", "nbd", Ordering::Less),
            ("net-2", "net-10", Ordering::Less),
            ("a_1", "a1", Ordering::Equal),
        ] {
            assert_eq!(version_order(a, b), order, "{a} {b}");
        }
    }
}
