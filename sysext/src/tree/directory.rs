//! A directory of the host as a tree.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr, major, minor};

use super::{Content, Entry, Kind, Tree, join};
use crate::Error;

/// The kernel lists no more names, and stores no larger value.
const XATTR_MAX: usize = 65536;

impl Tree {
    /// Reads the directory `root` as it is: owners, times, extended attributes, hard links. Symbolic links
    /// are not followed, files are not opened yet.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when something cannot be read, [`Error::Entry`] for a socket and for a path that
    /// [`Tree::insert`] refuses.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let mut tree = Self::new();
        let mut hard_links = HashMap::new();
        let mut ahead = vec![(Vec::new(), root.to_owned())];
        while let Some((path, place)) = ahead.pop() {
            let metadata = fs::symlink_metadata(&place).map_err(cannot_read(&place))?;
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = hard_links.get(&inode) {
                tree.link(first, &path)?;
                continue;
            }
            let entry = entry(&place, &metadata)?;
            if path.is_empty() && !entry.is_directory() {
                return Err(cannot_read(&place)(io::ErrorKind::NotADirectory.into()));
            }
            if entry.is_directory() {
                ahead.extend(list(&path, &place)?);
            } else if metadata.nlink() > 1 {
                hard_links.insert(inode, path.clone());
            }
            tree.insert(&path, entry)?;
        }
        Ok(tree)
    }
}

/// What is in a directory: paths in the tree and on the host.
fn list(path: &[u8], place: &Path) -> Result<Vec<(Vec<u8>, PathBuf)>, Error> {
    let child = |item: io::Result<fs::DirEntry>| {
        let item = item.map_err(cannot_read(place))?;
        Ok((join(path, item.file_name().as_bytes()), item.path()))
    };
    fs::read_dir(place)
        .map_err(cannot_read(place))?
        .map(child)
        .collect()
}

/// One file or directory, without what is in it; a symbolic link is not followed.
pub(crate) fn read_entry(place: &Path) -> Result<Entry, Error> {
    let metadata = fs::symlink_metadata(place).map_err(cannot_read(place))?;
    entry(place, &metadata)
}

fn entry(place: &Path, metadata: &Metadata) -> Result<Entry, Error> {
    Ok(Entry {
        mode: u16::try_from(metadata.mode() & 0o7777).unwrap_or_default(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: metadata.mtime(),
        xattrs: xattrs(place)?,
        kind: kind(place, metadata)?,
    })
}

fn kind(place: &Path, metadata: &Metadata) -> Result<Kind, Error> {
    let file_type = metadata.file_type();
    let device = metadata.rdev();
    Ok(if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_file() {
        Kind::File(Content::from_file(place, metadata.len()))
    } else if file_type.is_symlink() {
        let target = fs::read_link(place).map_err(cannot_read(place))?;
        Kind::Symlink(target.into_os_string().into_vec())
    } else if file_type.is_char_device() {
        Kind::CharDevice {
            major: major(device),
            minor: minor(device),
        }
    } else if file_type.is_block_device() {
        Kind::BlockDevice {
            major: major(device),
            minor: minor(device),
        }
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else {
        let place = place.as_os_str().as_bytes();
        return Err(Error::entry(place, "is a socket, which no image can hold"));
    })
}

/// All extended attributes; none where the file system has none.
fn xattrs(place: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut buffer = vec![0; XATTR_MAX];
    let listed = match llistxattr(place, buffer.as_mut_slice()) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        listed => listed.map_err(|errno| cannot_read(place)(errno.into()))?,
    };
    let names = buffer.get(..listed).unwrap_or_default().to_vec();
    let mut xattrs = BTreeMap::new();
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let read = lgetxattr(place, name, buffer.as_mut_slice());
        let read = read.map_err(|errno| cannot_read(place)(errno.into()))?;
        xattrs.insert(
            name.to_vec(),
            buffer.get(..read).unwrap_or_default().to_vec(),
        );
    }
    Ok(xattrs)
}

fn cannot_read(place: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Read {
        path: place.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn reads_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/file"), "text").unwrap();
        fs::hard_link(at("d/file"), at("again")).unwrap();
        symlink("d/nowhere", at("link")).unwrap();
        let strange = std::ffi::OsStr::from_bytes(b"\xff\n");
        fs::write(root.path().join(strange), "").unwrap();

        let tree = Tree::read(root.path()).unwrap();
        let paths: Vec<&[u8]> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            [
                b"".as_slice(),
                b"again",
                b"d",
                b"d/file",
                b"link",
                b"\xff\n"
            ]
        );
        let number = |wanted: &str| {
            tree.inodes()
                .find(|(path, ..)| *path == wanted.as_bytes())
                .unwrap()
                .1
        };
        assert_eq!(number("again"), number("d/file"));
        assert!(
            matches!(&tree.get("link").unwrap().kind, Kind::Symlink(target) if target == b"d/nowhere")
        );
        let Kind::File(content) = &tree.get("d/file").unwrap().kind else {
            panic!()
        };
        assert_eq!(content.read(4).unwrap(), b"text");
        assert_eq!(
            tree.get("d/file").unwrap().mtime,
            fs::metadata(at("again")).unwrap().mtime()
        );
    }

    #[test]
    fn says_what_it_cannot_read() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let message = Tree::read(root.path()).unwrap_err().to_string();
        assert_eq!(
            message,
            format!(
                "`{}`: is a socket, which no image can hold",
                socket.display()
            )
        );

        let missing = root.path().join("missing");
        let message = Tree::read(&missing).unwrap_err().to_string();
        assert_eq!(message, format!("cannot read `{}`", missing.display()));
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Tree::read(&file), Err(Error::Read { path, .. }) if path == file));
    }
}
