//! What two trees hold differently, path by path.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Content, ContentReader, Entry, Kind, Tree, escape};
use crate::Error;

/// Files are compared in pieces of this size.
const PIECE: usize = 64 * 1024;

/// One respect in which a path differs. The first value is that of the first tree. Shown in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Only the first tree has it; this is what it is there.
    OnlyFirst(&'static str),
    /// Only the second tree has it.
    OnlySecond(&'static str),
    /// They are of different kinds, for instance `file` and `directory`.
    Kind(&'static str, &'static str),
    /// The files have different sizes, in bytes.
    Size(u64, u64),
    /// The files have equal sizes; this is the first byte that differs.
    Content(u64),
    /// Permission bits.
    Mode(u16, u16),
    /// User and group.
    Owner((u32, u32), (u32, u32)),
    /// The time of modification, in seconds since 1970.
    Time(i64, i64),
    /// The targets of symbolic links.
    Target(Vec<u8>, Vec<u8>),
    /// Major and minor numbers of devices.
    Device((u32, u32), (u32, u32)),
    /// An extended attribute, by its name, and its values; one of them may be missing.
    Xattr(Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>),
    /// The first path that is a hard link to the same file; the path itself if there is none.
    HardLink(Vec<u8>, Vec<u8>),
}

/// A path and all that differs there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Differing {
    /// Path in both trees.
    pub path: Vec<u8>,
    /// At least one.
    pub differences: Vec<Difference>,
}

impl Tree {
    /// Compares everything but times with `other`, in the order of paths. Files are read at the same time, as
    /// far as they are equal.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when a file cannot be read.
    pub fn compare(&self, other: &Self) -> Result<Vec<Differing>, Error> {
        Comparison::new(self, other, false).collect()
    }

    /// As [`Tree::compare`], with times.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn compare_with_times(&self, other: &Self) -> Result<Vec<Differing>, Error> {
        Comparison::new(self, other, true).collect()
    }

    /// The first path of every inode that has more than one.
    fn first_links(&self) -> BTreeMap<usize, &[u8]> {
        let mut first: BTreeMap<usize, (&[u8], usize)> = BTreeMap::new();
        for (path, inode, _) in self.inodes() {
            first.entry(inode).or_insert((path, 0)).1 += 1;
        }
        first.retain(|_, (_, links)| *links > 1);
        first
            .into_iter()
            .map(|(inode, (path, _))| (inode, path))
            .collect()
    }
}

/// Two trees while they are compared.
struct Comparison<'a> {
    trees: [&'a Tree; 2],
    links: [BTreeMap<usize, &'a [u8]>; 2],
    times: bool,
    /// Pairs of inodes whose content was compared already, with what came out.
    compared: BTreeMap<(usize, usize), Option<Difference>>,
}

impl<'a> Comparison<'a> {
    fn new(first: &'a Tree, second: &'a Tree, times: bool) -> Self {
        Self {
            trees: [first, second],
            links: [first.first_links(), second.first_links()],
            times,
            compared: BTreeMap::new(),
        }
    }

    fn collect(mut self) -> Result<Vec<Differing>, Error> {
        let [first, second] = self.trees;
        let paths: BTreeSet<&[u8]> = first
            .paths
            .keys()
            .chain(second.paths.keys())
            .map(Vec::as_slice)
            .collect();
        let mut all = Vec::new();
        for path in paths {
            let differences = self.at(path)?;
            if !differences.is_empty() {
                let path = path.to_vec();
                all.push(Differing { path, differences });
            }
        }
        Ok(all)
    }

    fn at(&mut self, path: &[u8]) -> Result<Vec<Difference>, Error> {
        let [first, second] = self.trees;
        let (first, second) = match (first.get(path), second.get(path)) {
            (Some(first), Some(second)) => (first, second),
            (Some(first), None) => return Ok(vec![Difference::OnlyFirst(first.kind.word())]),
            (None, Some(second)) => return Ok(vec![Difference::OnlySecond(second.kind.word())]),
            (None, None) => return Ok(Vec::new()),
        };
        let kinds = (first.kind.word(), second.kind.word());
        if kinds.0 != kinds.1 {
            return Ok(vec![Difference::Kind(kinds.0, kinds.1)]);
        }
        let mut differences: Vec<Difference> =
            self.kinds(path, first, second)?.into_iter().collect();
        differences.extend(attributes(first, second));
        if self.times && first.mtime != second.mtime {
            differences.push(Difference::Time(first.mtime, second.mtime));
        }
        differences.extend(xattrs(first, second));
        differences.extend(self.hard_link(path));
        Ok(differences)
    }

    /// What the kind of both entries, which is the same, has for itself.
    fn kinds(
        &mut self,
        path: &[u8],
        first: &Entry,
        second: &Entry,
    ) -> Result<Option<Difference>, Error> {
        Ok(match (&first.kind, &second.kind) {
            (Kind::File(ours), Kind::File(theirs)) => {
                let inodes = self.inodes(path);
                if let Some(known) = self.compared.get(&inodes) {
                    return Ok(known.clone());
                }
                let found = contents(ours, theirs)?;
                self.compared.insert(inodes, found.clone());
                found
            }
            (Kind::Symlink(ours), Kind::Symlink(theirs)) => {
                (ours != theirs).then(|| Difference::Target(ours.clone(), theirs.clone()))
            }
            (ours, theirs) => {
                let (ours, theirs) = (ours.device(), theirs.device());
                ours.zip(theirs)
                    .filter(|(ours, theirs)| ours != theirs)
                    .map(|(ours, theirs)| Difference::Device(ours, theirs))
            }
        })
    }

    fn inodes(&self, path: &[u8]) -> (usize, usize) {
        let [first, second] = self
            .trees
            .map(|tree| tree.paths.get(path).copied().unwrap_or_default());
        (first, second)
    }

    fn hard_link(&self, path: &[u8]) -> Option<Difference> {
        let (first, second) = self.inodes(path);
        let [ours, theirs] = &self.links;
        let linked = |links: &BTreeMap<usize, &'a [u8]>, inode| {
            links.get(&inode).copied().unwrap_or(path).to_vec()
        };
        let (ours, theirs) = (linked(ours, first), linked(theirs, second));
        (ours != theirs).then_some(Difference::HardLink(ours, theirs))
    }
}

fn attributes(first: &Entry, second: &Entry) -> impl Iterator<Item = Difference> {
    let mode = (first.mode != second.mode).then_some(Difference::Mode(first.mode, second.mode));
    let owners = ((first.uid, first.gid), (second.uid, second.gid));
    let owner = (owners.0 != owners.1).then_some(Difference::Owner(owners.0, owners.1));
    mode.into_iter().chain(owner)
}

fn xattrs(first: &Entry, second: &Entry) -> Vec<Difference> {
    let names: BTreeSet<&Vec<u8>> = first.xattrs.keys().chain(second.xattrs.keys()).collect();
    let difference = |name: &Vec<u8>| {
        let (ours, theirs) = (
            first.xattrs.get(name).cloned(),
            second.xattrs.get(name).cloned(),
        );
        (ours != theirs).then(|| Difference::Xattr(name.clone(), ours, theirs))
    };
    names.into_iter().filter_map(difference).collect()
}

fn contents(first: &Content, second: &Content) -> Result<Option<Difference>, Error> {
    if first.size() != second.size() {
        return Ok(Some(Difference::Size(first.size(), second.size())));
    }
    let (mut first, mut second) = (first.open()?, second.open()?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut at = 0;
    while first.left() > 0 {
        piece(&mut first, &mut ours)?;
        piece(&mut second, &mut theirs)?;
        if let Some(differs) = ours
            .iter()
            .zip(&theirs)
            .position(|(ours, theirs)| ours != theirs)
        {
            return Ok(Some(Difference::Content(at + differs as u64)));
        }
        at += ours.len() as u64;
    }
    first.finish()?;
    second.finish()?;
    Ok(None)
}

/// Fills `buffer` with what comes next.
fn piece(reader: &mut ContentReader<'_>, buffer: &mut Vec<u8>) -> Result<(), Error> {
    let size = usize::try_from(reader.left()).unwrap_or(PIECE).min(PIECE);
    buffer.resize(size, 0);
    reader.fill(buffer)
}

impl Kind {
    /// What it is in a word: `directory`, `file`, `symlink`, `char-device`, `block-device` or `fifo`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "file",
            Self::Symlink(_) => "symlink",
            Self::CharDevice { .. } => "char-device",
            Self::BlockDevice { .. } => "block-device",
            Self::Fifo => "fifo",
        }
    }

    /// Major and minor number of a device.
    pub fn device(&self) -> Option<(u32, u32)> {
        match *self {
            Self::CharDevice { major, minor } | Self::BlockDevice { major, minor } => {
                Some((major, minor))
            }
            _ => None,
        }
    }
}

impl Difference {
    /// The respect, in a word: `exists`, `kind`, `size`, `content`, `mode`, `owner`, `time`, `target`, `device`,
    /// `xattr NAME` or `hard-link`.
    pub fn what(&self) -> String {
        match self {
            Self::OnlyFirst(_) | Self::OnlySecond(_) => "exists".into(),
            Self::Kind(..) => "kind".into(),
            Self::Size(..) => "size".into(),
            Self::Content(_) => "content".into(),
            Self::Mode(..) => "mode".into(),
            Self::Owner(..) => "owner".into(),
            Self::Time(..) => "time".into(),
            Self::Target(..) => "target".into(),
            Self::Device(..) => "device".into(),
            Self::Xattr(name, ..) => format!("xattr {}", escape(name)),
            Self::HardLink(..) => "hard-link".into(),
        }
    }

    /// What it is in the first and in the second tree, as text; `None` where there is nothing.
    pub fn values(&self) -> [Option<String>; 2] {
        let pair = |(major, minor): &(u32, u32)| format!("{major}:{minor}");
        match self {
            Self::OnlyFirst(kind) => [Some((*kind).into()), None],
            Self::OnlySecond(kind) => [None, Some((*kind).into())],
            Self::Kind(first, second) => [first, second].map(|kind| Some((*kind).into())),
            Self::Size(first, second) => [first, second].map(|size| Some(size.to_string())),
            Self::Content(_) => [None, None],
            Self::Mode(first, second) => [first, second].map(|mode| Some(format!("{mode:04o}"))),
            Self::Owner(first, second) | Self::Device(first, second) => {
                [first, second].map(|ids| Some(pair(ids)))
            }
            Self::Time(first, second) => [first, second].map(|time| Some(time.to_string())),
            Self::Target(first, second) | Self::HardLink(first, second) => {
                [first, second].map(|path| Some(escape(path)))
            }
            Self::Xattr(_, first, second) => [first, second].map(|value| {
                value
                    .as_ref()
                    .map(|value| format!("0x{}", hex::encode(value)))
            }),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyFirst(kind) => write!(f, "{kind} only in the first"),
            Self::OnlySecond(kind) => write!(f, "{kind} only in the second"),
            Self::Content(byte) => write!(f, "content from byte {byte} on"),
            other => {
                let [first, second] = other.values().map(|value| value.unwrap_or("none".into()));
                write!(f, "{} {first}, {second}", other.what())
            }
        }
    }
}

impl Serialize for Difference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("what", &self.what())?;
        if let Self::Content(byte) = self {
            map.serialize_entry("byte", byte)?;
        } else {
            let [first, second] = self.values();
            map.serialize_entry("first", &first)?;
            map.serialize_entry("second", &second)?;
        }
        map.end()
    }
}

impl Differing {
    /// All that differs, in one line without the path.
    pub fn summary(&self) -> String {
        let differences: Vec<String> = self.differences.iter().map(ToString::to_string).collect();
        differences.join("; ")
    }
}

impl fmt::Display for Differing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "/".into()
        } else {
            escape(&self.path)
        };
        write!(f, "{path}: {}", self.summary())
    }
}

impl Serialize for Differing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("path", &escape(&self.path))?;
        map.serialize_entry("differences", &self.differences)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            tree.insert(path, entry.clone()).unwrap();
        }
        tree
    }

    fn differences(first: &Tree, second: &Tree) -> Vec<String> {
        let found = first.compare_with_times(second).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_trees_do_not_differ() {
        let tree = tree(&[("a", Entry::file("x")), ("b", Entry::symlink("a"))]);
        assert_eq!(differences(&tree, &tree.clone()), [""; 0]);
    }

    #[test]
    fn each_respect_is_told_with_both_values() {
        let changed = |change: fn(&mut Entry)| {
            let mut entry = Entry::file("text");
            change(&mut entry);
            entry
        };
        let device = |minor| Entry::new(0o600, Kind::CharDevice { major: 1, minor });
        for (first, second, expected) in [
            (
                Entry::file("text"),
                Entry::directory(),
                "a: kind file, directory",
            ),
            (Entry::file("text"), Entry::file("texts"), "a: size 4, 5"),
            (
                Entry::file("text"),
                Entry::file("test"),
                "a: content from byte 2 on",
            ),
            (
                Entry::symlink("b\n"),
                Entry::symlink("c"),
                "a: target b\\x0a, c",
            ),
            (device(3), device(5), "a: device 1:3, 1:5"),
            (
                Entry::file("text"),
                changed(|entry| (entry.mode, entry.uid, entry.mtime) = (0o4755, 7, -1)),
                "a: mode 0644, 4755; owner 0:0, 7:0; time 0, -1",
            ),
            (
                changed(|entry| drop(entry.xattrs.insert(b"user.a".to_vec(), b"1".to_vec()))),
                changed(|entry| drop(entry.xattrs.insert(b"user.b".to_vec(), b"".to_vec()))),
                "a: xattr user.a 0x31, none; xattr user.b none, 0x",
            ),
        ] {
            let (first, second) = (tree(&[("a", first)]), tree(&[("a", second)]));
            assert_eq!(differences(&first, &second), [expected]);
        }
        let (full, empty) = (
            tree(&[("a", Entry::file("")), ("b", Entry::file(""))]),
            tree(&[("b", Entry::file(""))]),
        );
        assert_eq!(differences(&full, &empty), ["a: file only in the first"]);
        assert_eq!(differences(&empty, &full), ["a: file only in the second"]);
    }

    #[test]
    fn long_files_are_compared_to_their_end() {
        let long = |last: u8| {
            let mut bytes = vec![7; 3 * PIECE + 1];
            *bytes.last_mut().unwrap() = last;
            tree(&[("a", Entry::file(bytes))])
        };
        assert_eq!(differences(&long(7), &long(7)), [""; 0]);
        assert_eq!(
            differences(&long(7), &long(8)),
            ["a: content from byte 196608 on"]
        );
    }

    #[test]
    fn hard_links_are_told_by_their_first_path() {
        let mut linked = tree(&[("a", Entry::file("x"))]);
        linked.link("a", "b").unwrap();
        let copied = tree(&[("a", Entry::file("x")), ("b", Entry::file("x"))]);
        assert_eq!(differences(&linked, &copied), ["b: hard-link a, b"]);
    }

    #[test]
    fn json_has_both_values() {
        let (first, second) = (
            tree(&[("a", Entry::file("x"))]),
            tree(&[("a", Entry::file("y")), ("b", Entry::directory())]),
        );
        let found = first.compare(&second).unwrap();
        assert_eq!(
            serde_json::to_value(&found).unwrap(),
            serde_json::json!([
                {"path": "a", "differences": [{"what": "content", "byte": 0}]},
                {"path": "b", "differences": [{"what": "exists", "first": null, "second": "directory"}]},
            ])
        );
    }
}
