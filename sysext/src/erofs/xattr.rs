//! The extended attributes of an inode as the bytes behind it, and the area for those that several inodes have.
//!
//! ```text
//! behind an inode:  XattrHeader │ places of shared entries │ entries of its own
//! area:             entries; a place counts words from the block in which the area begins
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::format::{self, XattrEntry, XattrHeader};
use crate::Error;
use crate::tree::{Entry, Tree};

/// Places and the lengths of bodies are counted in these.
pub(super) const WORD: u64 = 4;
/// The largest body whose size the inode's field can say.
const BODY_MAX: usize = size_of::<XattrHeader>() + 4 * (u16::MAX as usize - 1);
/// The most shared entries whose number the header can say.
const SHARED_MAX: usize = u8::MAX as usize;

/// The entries that are stored once for all inodes that have them.
#[derive(Debug, Default)]
pub(super) struct Shared<'t> {
    /// How many words after the first each begins.
    places: HashMap<(&'t [u8], &'t [u8]), u32>,
    pub(super) bytes: Vec<u8>,
}

impl<'t> Shared<'t> {
    /// What of the attributes in `tree` takes less room this way.
    pub(super) fn of(tree: &'t Tree) -> Self {
        let mut users: BTreeMap<(&[u8], &[u8]), usize> = BTreeMap::new();
        let mut counted = HashSet::new();
        let inodes = tree
            .inodes()
            .filter(|(_, number, _)| counted.insert(*number));
        for (name, value) in inodes.flat_map(|(_, _, inode)| &inode.xattrs) {
            let users = users.entry((name.as_slice(), value.as_slice()));
            *users.or_default() += 1;
        }
        let mut shared = Self::default();
        for ((name, value), users) in users.into_iter().filter(|(_, users)| *users > 1) {
            // What has no place in EROFS is refused with the path of the first inode that has it.
            let Some(bytes) = entry(name, value) else {
                continue;
            };
            let Ok(place) = u32::try_from(shared.bytes.len() / 4) else {
                break;
            };
            if bytes.len() + users * size_of::<U32>() < users * bytes.len() {
                shared.places.insert((name, value), place);
                shared.bytes.extend(bytes);
            }
        }
        shared
    }
}

/// The attributes of one inode.
#[derive(Debug, Default)]
pub(super) struct Xattrs {
    /// The places of those in the area.
    shared: Vec<u32>,
    /// The entries that stand behind the inode.
    own: Vec<u8>,
}

impl Xattrs {
    /// Those of the inode at `path`.
    pub(super) fn new(path: &[u8], inode: &Entry, area: &Shared<'_>) -> Result<Self, Error> {
        let mut xattrs = Self::default();
        for (name, value) in &inode.xattrs {
            match area.places.get(&(name.as_slice(), value.as_slice())) {
                Some(place) if xattrs.shared.len() < SHARED_MAX => xattrs.shared.push(*place),
                _ => xattrs.own.extend(entry(name, value).ok_or_else(|| {
                    let name = String::from_utf8_lossy(name);
                    let what = format!("EROFS cannot hold the extended attribute {name}");
                    Error::entry(path, what)
                })?),
            }
        }
        if xattrs.len() > BODY_MAX {
            return Err(Error::entry(
                path,
                "extended attributes are longer than 262148 bytes",
            ));
        }
        Ok(xattrs)
    }

    /// Bytes behind the inode.
    pub(super) fn len(&self) -> usize {
        match self.shared.len() * size_of::<U32>() + self.own.len() {
            0 => 0,
            entries => size_of::<XattrHeader>() + entries,
        }
    }

    /// What stands there, when the area begins `first` words after the start of a block.
    pub(super) fn body(&self, first: u32) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.len());
        if self.len() > 0 {
            let shared_count = u8::try_from(self.shared.len()).unwrap_or(u8::MAX);
            body.extend_from_slice(XattrHeader::new(shared_count).as_bytes());
        }
        for place in &self.shared {
            body.extend_from_slice(U32::new(first + place).as_bytes());
        }
        body.extend_from_slice(&self.own);
        body
    }

    /// What the inode's field says about this: 0 for none, else the words behind the header + 1.
    pub(super) fn count(&self) -> u16 {
        let words = self
            .len()
            .checked_sub(size_of::<XattrHeader>())
            .map_or(0, |rest| rest / 4 + 1);
        // A body is never longer than BODY_MAX.
        u16::try_from(words).unwrap_or(u16::MAX)
    }
}

/// One entry, padded to a word. `None` for an unknown namespace and a name or value that is too long.
fn entry(name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let (prefix, rest) = format::xattr_prefix(name)?;
    let head = XattrEntry {
        name_len: u8::try_from(rest.len()).ok()?,
        prefix,
        value_len: U16::new(value.len().try_into().ok()?),
    };
    let mut entry = [head.as_bytes(), rest, value].concat();
    entry.resize(entry.len().next_multiple_of(4), 0);
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(xattrs: &[(&[u8], &[u8])]) -> Entry {
        let xattrs = xattrs.iter();
        Entry {
            xattrs: xattrs
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
            ..Entry::file([])
        }
    }

    fn tree(inodes: &[Entry]) -> Tree {
        let mut tree = Tree::new();
        for (number, inode) in inodes.iter().enumerate() {
            tree.insert(number.to_string(), inode.clone()).unwrap();
        }
        tree.link("0", "link").unwrap();
        tree
    }

    fn of(xattrs: &[(&[u8], &[u8])]) -> Result<Vec<u8>, Error> {
        let xattrs = Xattrs::new(b"x", &inode(xattrs), &Shared::default())?;
        let body = xattrs.body(0);
        assert_eq!(body.len(), xattrs.len());
        Ok(body)
    }

    #[test]
    fn lays_out_header_entries_and_padding() {
        assert_eq!(of(&[]).unwrap(), b"");
        assert_eq!(
            of(&[(b"user.a", b"")]).unwrap(),
            b"\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\0\0a\0\0\0"
        );
        let two = of(&[(b"user.ab", b"12345"), (b"security.c", b"z")]).unwrap();
        let second_first = b"\x01\x06\x01\0cz\0\0\x02\x01\x05\0ab12345\0";
        assert_eq!(two, [&[0; 12][..], second_first].concat());
        let acl = of(&[(b"system.posix_acl_default", b"acl!")]).unwrap();
        assert_eq!(acl, [&[0; 12][..], b"\0\x03\x04\0acl!"].concat());
    }

    #[test]
    fn stores_once_what_several_have_when_that_is_smaller() {
        let both: &[(&[u8], &[u8])] = &[(b"user.long", b"0123456789"), (b"user.s", b"v")];
        let inodes = [inode(both), inode(&both[..1]), inode(both)];
        let tree_of_three = tree(&inodes);
        let shared = Shared::of(&tree_of_three);
        // The short one takes 8 bytes: stored twice no more than once and two places.
        assert_eq!(shared.bytes, b"\x04\x01\x0a\0long0123456789\0\0");
        let [first, second, _] = inodes
            .each_ref()
            .map(|inode| Xattrs::new(b"x", inode, &shared).unwrap());
        let header = b"\0\0\0\0\x01\0\0\0\0\0\0\0";
        assert_eq!(second.body(7), [&header[..], b"\x07\0\0\0"].concat());
        let own = b"\x07\0\0\0\x01\x01\x01\0sv\0\0";
        assert_eq!(first.body(7), [&header[..], own].concat());
        assert_eq!((first.count(), second.count()), (4, 2));

        let again = [&inodes[..], &[inode(&both[1..])]].concat();
        let tree_of_four = tree(&again);
        let shared = Shared::of(&tree_of_four);
        assert_eq!(shared.bytes.len(), 20 + 8);
        let first = Xattrs::new(b"x", &again[0], &shared).unwrap();
        let places = b"\x02\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0";
        assert_eq!(first.body(0), [&[0; 4][..], places].concat());
    }

    #[test]
    fn shares_no_more_than_the_header_can_count() {
        let names: Vec<Vec<u8>> = (0..300)
            .map(|n| format!("user.{n:03}").into_bytes())
            .collect();
        let many: Vec<(&[u8], &[u8])> = names
            .iter()
            .map(|name| (name.as_slice(), &b"0123456789"[..]))
            .collect();
        let inodes = [inode(&many), inode(&many)];
        let xattrs = Xattrs::new(b"x", &inodes[0], &Shared::of(&tree(&inodes))).unwrap();
        assert_eq!(xattrs.shared.len(), 255);
        assert_eq!(xattrs.len(), 12 + 255 * 4 + 45 * 20);
    }

    #[test]
    fn counts_words() {
        let max = BODY_MAX - 12;
        for (own, expected) in [(0, 0), (8, 3), (max, u16::MAX)] {
            let xattrs = Xattrs {
                own: vec![0; own],
                ..Xattrs::default()
            };
            assert_eq!(xattrs.count(), expected, "{own}");
        }
    }

    #[test]
    fn refuses_what_has_no_place() {
        let long = [b"user.".as_slice(), &[b'n'; 256]].concat();
        let cases: [(&[u8], &[u8]); 5] = [
            (b"user.", b""),
            (b"other.a", b""),
            (b"system.posix_acl_accessx", b""),
            (&long, b""),
            (b"user.v", &[0; 65536]),
        ];
        for (name, value) in cases {
            let message = of(&[(name, value)]).unwrap_err().to_string();
            assert!(
                message.starts_with("`x`: EROFS cannot hold the extended attribute "),
                "{message}"
            );
        }
        let names: Vec<Vec<u8>> = (0..5).map(|n| format!("user.{n}").into_bytes()).collect();
        let many: Vec<(&[u8], &[u8])> = names
            .iter()
            .map(|name| (name.as_slice(), &[0; 65535][..]))
            .collect();
        assert_eq!(
            of(&many).unwrap_err().to_string(),
            "`x`: extended attributes are longer than 262148 bytes"
        );
    }
}
