//! What a builder that is not root cannot give the files of its tree: owners, modes, devices, extended attributes. An
//! mtree(5) file says it, as BSD's makefs, bsdtar and go-mtree read and write them.
//!
//! ```text
//! #mtree
//! /set uid=0 gid=0
//! ./usr/bin/ping mode=0755 xattr.security.capability=cap_net_raw+ep
//! ./usr/lib/feature/null type=char mode=0666 device=native,1,3
//! ```
//!
//! What a file is (`type`, `link`, `device`, `size`) is checked, what it has is set. A directory, device, pipe or
//! symbolic link that is not in the tree is added. Paths that are not named stay as they are.

mod capability;
mod syntax;

use std::collections::BTreeMap;

use syntax::Line;

use crate::tree::escape;
use crate::{Entry, Error, Kind, Tree};

/// A manifest, read and ready to be applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    items: Vec<Item>,
}

/// What a manifest says of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Item {
    line: usize,
    path: Vec<u8>,
    kind: Option<&'static str>,
    target: Option<Vec<u8>>,
    device: Option<(u32, u32)>,
    size: Option<u64>,
    mode: Option<u16>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<i64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether the path may be missing.
    optional: bool,
}

impl Manifest {
    /// Reads an mtree file.
    ///
    /// # Errors
    ///
    /// [`Error::Line`] for what is not in that format, and for what would be passed over in silence.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let lines = syntax::lines(text)?;
        let items: Result<Vec<Item>, Error> = lines.into_iter().map(Item::of).collect();
        Ok(Self { items: items? })
    }

    /// Whether it says a mode for this path.
    pub(crate) fn sets_mode(&self, path: &[u8]) -> bool {
        self.items
            .iter()
            .any(|item| item.path == path && item.mode.is_some())
    }

    /// Does what it says to a tree, from the first line to the last.
    ///
    /// # Errors
    ///
    /// [`Error::Line`] where the tree holds something else than it says, or nothing that it could change.
    pub fn apply(&self, tree: &mut Tree) -> Result<(), Error> {
        self.items.iter().try_for_each(|item| item.apply(tree))
    }
}

impl Item {
    fn of(line: Line) -> Result<Self, Error> {
        let mut item = Self {
            line: line.number,
            path: line.path,
            ..Self::default()
        };
        for (key, value) in &line.keywords {
            item.set(key, value.as_deref())?;
        }
        Ok(item)
    }

    fn set(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), Error> {
        let refused = |what: String| Error::line(self.line, what);
        if key == "optional" {
            self.optional = true;
            return Ok(());
        }
        let value = value
            .ok_or_else(|| refused(format!("keyword `{key}` has no value or is not known")))?;
        let wrong = |rule: &str| refused(format!("`{key}={}` is not {rule}", escape(value)));
        let text = std::str::from_utf8(value).unwrap_or_default();
        match key {
            "type" => {
                self.kind =
                    Some(kind(text).ok_or_else(|| wrong("dir, file, link, char, block or fifo"))?)
            }
            "link" => self.target = Some(value.to_vec()),
            "device" => {
                self.device = Some(device(text).ok_or_else(|| wrong("native,MAJOR,MINOR"))?)
            }
            "mode" => {
                self.mode = Some(mode(text).ok_or_else(|| wrong("an octal number up to 7777"))?)
            }
            "size" => self.size = Some(text.parse().map_err(|_| wrong("a number"))?),
            "uid" => self.uid = Some(text.parse().map_err(|_| wrong("a number"))?),
            "gid" => self.gid = Some(text.parse().map_err(|_| wrong("a number"))?),
            "time" => self.mtime = Some(time(text).ok_or_else(|| wrong("a number of seconds"))?),
            // The names of another machine's users mean nothing here, apart from this one's.
            "uname" if text == "root" => self.uid = self.uid.or(Some(0)),
            "gname" if text == "root" => self.gid = self.gid.or(Some(0)),
            "uname" | "gname" => {
                return Err(refused(format!(
                    "`{key}={text}` is a name; only numbers are taken"
                )));
            }
            // What tools write beside that: sums of the content and its place in a file system.
            "nlink" | "inode" | "flags" | "cksum" | "tags" | "resdevice" => {}
            sum if SUMS.iter().any(|known| sum.starts_with(known)) => {}
            _ => {
                let name = key
                    .strip_prefix("xattr.")
                    .ok_or_else(|| refused(format!("keyword `{key}` is not known")))?;
                let value = xattr(name, text).ok_or_else(|| wrong("base64"))?;
                self.xattrs.insert(name.as_bytes().to_vec(), value);
            }
        }
        Ok(())
    }

    fn apply(&self, tree: &mut Tree) -> Result<(), Error> {
        let refused =
            |what: String| Error::line(self.line, format!("`{}` {what}", escape(&self.path)));
        if tree.get(&self.path).is_none() {
            if self.optional {
                return Ok(());
            }
            let entry = self
                .entry()
                .ok_or_else(|| refused("is not in the tree".into()))?;
            tree.insert(&self.path, entry)
                .map_err(|error| Error::line(self.line, error.to_string()))?;
        }
        // It was there, or is now.
        let Some(entry) = tree.get_mut(&self.path) else {
            return Ok(());
        };
        if let Some(what) = self.contradiction(entry) {
            return Err(refused(what));
        }
        self.give(entry);
        Ok(())
    }

    /// One that is not in the tree, when this says all there is to know about it.
    fn entry(&self) -> Option<Entry> {
        let (mode, kind) = match (self.kind?, self.device, &self.target) {
            ("directory", ..) => (0o755, Kind::Directory),
            ("fifo", ..) => (0o644, Kind::Fifo),
            ("symlink", _, Some(target)) => (0o777, Kind::Symlink(target.clone())),
            ("char-device", Some((major, minor)), _) => (0o600, Kind::CharDevice { major, minor }),
            ("block-device", Some((major, minor)), _) => {
                (0o600, Kind::BlockDevice { major, minor })
            }
            _ => return None,
        };
        Some(Entry::new(mode, kind))
    }

    /// Why `entry` is not what this says.
    fn contradiction(&self, entry: &Entry) -> Option<String> {
        let own = entry.kind.word();
        if let Some(kind) = self.kind.filter(|kind| *kind != own) {
            return Some(format!("is a {own}, not a {kind}"));
        }
        match (&entry.kind, &self.target, self.size) {
            (Kind::Symlink(own), Some(target), _) if own != target => {
                return Some(format!(
                    "leads to `{}`, not to `{}`",
                    escape(own),
                    escape(target)
                ));
            }
            (Kind::File(content), _, Some(size)) if content.size() != size => {
                return Some(format!("has {} bytes, not {size}", content.size()));
            }
            _ => {}
        }
        let (own, said) = entry.kind.device().zip(self.device)?;
        (own != said).then(|| format!("is device {}:{}, not {}:{}", own.0, own.1, said.0, said.1))
    }

    fn give(&self, entry: &mut Entry) {
        entry.mode = self.mode.unwrap_or(entry.mode);
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.xattrs.extend(self.xattrs.clone());
    }
}

/// How keywords with a sum of the content begin. It is read from the tree, so there is nothing to compare it with.
const SUMS: [&str; 4] = ["md5", "sha", "rmd160", "ripemd160"];

/// The words of [`Kind::word`] for those of mtree.
fn kind(text: &str) -> Option<&'static str> {
    Some(match text {
        "dir" => "directory",
        "file" => "file",
        "link" => "symlink",
        "char" => "char-device",
        "block" => "block-device",
        "fifo" => "fifo",
        _ => return None,
    })
}

fn mode(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
}

/// Seconds, with or without a fraction.
fn time(text: &str) -> Option<i64> {
    text.split('.').next()?.parse().ok()
}

/// `FORMAT,MAJOR,MINOR`. Which format is of no matter once the numbers are parted.
fn device(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(',');
    let (Some("native" | "linux"), Some(major), Some(minor), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1 << 12 && minor < 1 << 20).then_some((major, minor))
}

/// The value of an attribute, base64 with or without padding; of a capability also in the words of setcap(8).
fn xattr(name: &str, text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    if name == "security.capability"
        && let Some(value) = capability::parse(text)
    {
        return Some(value);
    }
    STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::listing::listing;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        tree.insert("usr/bin/ping", Entry::file("elf")).unwrap();
        tree.insert("usr/bin/link", Entry::symlink("ping")).unwrap();
        tree
    }

    fn applied(manifest: &str) -> Result<Vec<String>, String> {
        let mut tree = tree();
        let manifest = Manifest::parse(manifest.as_bytes()).map_err(|error| error.to_string())?;
        manifest
            .apply(&mut tree)
            .map_err(|error| error.to_string())?;
        let before = listing(&self::tree());
        Ok(listing(&tree)
            .into_iter()
            .filter(|line| !before.contains(line))
            .collect())
    }

    #[test]
    fn what_it_names_is_set_or_added() {
        let manifest = "#mtree\n/set uid=7 gid=8\n./usr/bin/ping mode=4755 size=3 time=5.25 \\\n\
                        \txattr.user.note=aGk= xattr.security.capability=cap_net_raw+ep sha256digest=00\n\
                        /unset uid gid\n./usr/lib/null type=char device=native,1,3 mode=0666\n./usr/share/x optional mode=0700\n";
        let lines = applied(manifest).unwrap();
        assert_eq!(
            lines,
            [
                "/usr/bin/ping file 3 780d84b20d7ae7e6292919399348bdbf96025270136198083fc8a4da398b5ca9 4755 7 8 5 [\"usr/bin/ping\"] \
                 security.capability=0100000200200000000000000000000000000000 user.note=6869",
                "/usr/lib dir 0755 0 0 0 [\"usr/lib\"]",
                "/usr/lib/null chardev 1:3 0666 0 0 0 [\"usr/lib/null\"]",
            ]
        );
    }

    #[test]
    fn what_it_cannot_mean_is_refused() {
        for (manifest, expected) in [
            (
                "./usr/bin/pong mode=0755",
                "line 1: `usr/bin/pong` is not in the tree",
            ),
            (
                "\n./usr/bin/ping type=dir",
                "line 2: `usr/bin/ping` is a file, not a directory",
            ),
            (
                "./usr/bin/ping size=4",
                "line 1: `usr/bin/ping` has 3 bytes, not 4",
            ),
            (
                "./usr/bin/link link=pong",
                "line 1: `usr/bin/link` leads to `ping`, not to `pong`",
            ),
            (
                "./usr/bin/ping mode=u+s",
                "line 1: `mode=u+s` is not an octal number up to 7777",
            ),
            (
                "./usr/bin/ping mode=17777",
                "line 1: `mode=17777` is not an octal number up to 7777",
            ),
            (
                "./usr/bin/ping uname=bob",
                "line 1: `uname=bob` is a name; only numbers are taken",
            ),
            (
                "./usr/bin/ping colour=red",
                "line 1: keyword `colour` is not known",
            ),
            (
                "./usr/bin/ping nochange",
                "line 1: keyword `nochange` has no value or is not known",
            ),
            (
                "./usr/bin/ping xattr.user.a=%",
                "line 1: `xattr.user.a=%` is not base64",
            ),
            (
                "./usr/a type=block device=8,1",
                "line 1: `device=8,1` is not native,MAJOR,MINOR",
            ),
            (
                "./usr/../a type=dir",
                "line 1: `usr/../a`: path is absolute or has an empty, `.` or `..` name in it",
            ),
        ] {
            assert_eq!(applied(manifest).unwrap_err(), expected, "{manifest}");
        }
        let long = format!("./usr/{} type=dir", "n".repeat(256));
        assert!(
            applied(&long)
                .unwrap_err()
                .ends_with("`: name is longer than 255 bytes")
        );
    }

    #[test]
    fn bsdtar_and_go_mtree_write_what_it_reads() {
        // As `bsdtar -cf - --format=mtree --options='!all,uid,gid,mode,type,link,size,time'` and `gomtree -c` write it.
        for manifest in [
            "#mtree\n. time=1700000000.0 mode=755 gid=0 uid=0 type=dir\n./usr/bin/ping time=1.5 mode=644 gid=0 uid=0 type=file size=3\n\
             ./usr/bin/link mode=777 gid=0 uid=0 type=link link=ping\n",
            "#           user: root\n\n# .\n/set type=file nlink=1 mode=0644 uid=0 gid=0\n. size=3 type=dir mode=0755 time=0.0\n\
             \n# usr\nusr type=dir mode=0755\n\n# usr/bin\nbin type=dir mode=0755\n    link type=link mode=0777 link=ping\n\
             \x20   ping size=3 sha256digest=ab\n# usr/bin\n..\n..\n..\n",
        ] {
            assert!(applied(manifest).is_ok(), "{:?}", applied(manifest));
        }
    }
}
