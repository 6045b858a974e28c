//! squashfs: read as an image, written by the program mksquashfs.

mod file;
mod format;
mod image;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use crate::tree::{Budget, Open, join, path_of_bytes};
use crate::window::Source;
use crate::{Content, Entry, Error, Kind, Tree};

pub(crate) use writer::{Options, write};

use file::ImageFile;
use format::{
    DirectoryEntry, DirectoryHeader, InodeHeader, NO_TABLE, NONE, OUT_OF_LINE, SuperBlock,
};
use image::{Image, Place, damaged};

/// The program, from the package squashfs-tools.
const MKSQUASHFS: &str = "mksquashfs";
/// The longest target of a symbolic link that the kernel follows.
const TARGET_MAX: u32 = 4095;
/// The longest value of an extended attribute that the kernel hands out.
const VALUE_MAX: u32 = 65536;

/// Reads a squashfs 4.0 image packed with zlib, xz, LZ4 or zstd. What files hold is read from `image` when it
/// is wanted; the tree keeps `image` for this.
///
/// # Errors
///
/// [`Error::FileSystem`] for what is damaged, not supported, or takes more memory than any real image;
/// [`Error::Entry`] for a socket and for paths that [`Tree::insert`] refuses.
pub fn read<R: Read + Seek + Send + 'static>(image: R) -> Result<Tree, Error> {
    let image = Arc::new(Image::new(Source::new(image))?);
    let root = image.superblock.root.get();
    let walk = Walk {
        image,
        tree: Tree::new(),
        budget: Budget::new("squashfs"),
        files: HashMap::new(),
        directories: HashSet::new(),
        ahead: Vec::new(),
    };
    walk.run(root)
}

/// The codec of an image by mksquashfs's name, and the bytes it packs at a time.
///
/// # Errors
///
/// [`Error::ReadImage`], [`Error::FileSystem`] when it ends before its superblock does.
pub(crate) fn compression(image: &mut (impl Read + Seek)) -> Result<(&'static str, u32), Error> {
    let mut bytes = Vec::new();
    image
        .seek(SeekFrom::Start(0))
        .and_then(|_| {
            image
                .take(size_of::<SuperBlock>() as u64)
                .read_to_end(&mut bytes)
        })
        .map_err(|source| Error::ReadImage { source })?;
    let superblock =
        SuperBlock::read_from_bytes(&bytes).map_err(|_| damaged(0, "no squashfs superblock"))?;
    Ok(image::compression(&superblock))
}

/// What is known while an image is walked through.
struct Walk {
    image: Arc<Image>,
    tree: Tree,
    budget: Budget,
    /// The first path of every inode that may have more, by the reference to it.
    files: HashMap<u64, Vec<u8>>,
    directories: HashSet<u64>,
    ahead: Vec<Listing>,
}

/// A directory that still has to be read: `size` bytes from `place`.
struct Listing {
    path: Vec<u8>,
    place: Place,
    size: u32,
}

/// What an inode says, and the number of its extended attributes.
struct Inode {
    kind: Kind,
    xattrs: u32,
}

impl Walk {
    fn run(mut self, root: u64) -> Result<Tree, Error> {
        self.add(Vec::new(), root)?;
        if !self.tree.get("").is_some_and(Entry::is_directory) || self.ahead.is_empty() {
            return Err(damaged(32, "root is not a directory"));
        }
        while let Some(listing) = self.ahead.pop() {
            self.list(listing)?;
        }
        Ok(self.tree)
    }

    /// Adds all that a directory names.
    fn list(&mut self, listing: Listing) -> Result<(), Error> {
        let Listing {
            path,
            mut place,
            size,
        } = listing;
        let mut left = size;
        while left > 0 {
            let header: DirectoryHeader = self.image.read(&mut place)?;
            left = shrink(left, size_of::<DirectoryHeader>(), place)?;
            for _ in 0..=header.count_less_one.get().min(255) {
                let entry: DirectoryEntry = self.image.read(&mut place)?;
                let name_len = usize::from(entry.name_len_less_one.get()) + 1;
                left = shrink(left, size_of::<DirectoryEntry>() + name_len, place)?;
                let name = self.image.bytes(&mut place, name_len)?;
                let reference =
                    u64::from(header.inode_block.get()) << 16 | u64::from(entry.inode_offset.get());
                if name.contains(&b'/') {
                    return Err(damaged(place.block, "a name holds a slash"));
                }
                self.add(join(&path, &name), reference)?;
            }
        }
        Ok(())
    }

    /// Adds the inode that `reference` leads to, at `path`.
    fn add(&mut self, path: Vec<u8>, reference: u64) -> Result<(), Error> {
        self.budget.spend(path.len())?;
        if let Some(first) = self.files.get(&reference) {
            return self.tree.link(first, &path);
        }
        if !path.is_empty() && self.tree.get(&path).is_some() {
            return Err(Error::entry(&path, "is there twice"));
        }
        let entry = self.entry(&path, reference)?;
        if !entry.is_directory() {
            self.files.insert(reference, path.clone());
        } else if !self.directories.insert(reference) {
            return Err(Error::entry(&path, "is a directory with two names"));
        }
        self.tree.insert(path, entry)
    }

    fn entry(&mut self, path: &[u8], reference: u64) -> Result<Entry, Error> {
        let mut place = Place::new(self.image.superblock.inode_table.get(), reference);
        let header: InodeHeader = self.image.read(&mut place)?;
        let Inode { kind, xattrs } = self.inode(path, header.kind.get(), place)?;
        Ok(Entry {
            mode: header.mode.get() & 0o7777,
            uid: self.id(header.uid.get())?,
            gid: self.id(header.gid.get())?,
            mtime: header.mtime.get().into(),
            xattrs: self.xattrs(xattrs)?,
            kind,
        })
    }

    /// Reads what follows the header of an inode.
    fn inode(&mut self, path: &[u8], kind: u16, mut place: Place) -> Result<Inode, Error> {
        let image = self.image.clone();
        Ok(match kind {
            1 => {
                let directory: format::Directory = image.read(&mut place)?;
                self.directory(
                    path,
                    directory.block.get(),
                    directory.offset.get(),
                    directory.size.get().into(),
                    NONE,
                )
            }
            8 => {
                let long: format::LongDirectory = image.read(&mut place)?;
                self.directory(
                    path,
                    long.block.get(),
                    long.offset.get(),
                    long.size.get(),
                    long.xattrs.get(),
                )
            }
            2 => {
                let file: format::File = image.read(&mut place)?;
                let fragment = (file.fragment.get(), file.fragment_offset.get());
                self.file(
                    path,
                    file.start.get().into(),
                    file.size.get().into(),
                    fragment,
                    place,
                    NONE,
                )?
            }
            9 => {
                let long: format::LongFile = image.read(&mut place)?;
                let fragment = (long.fragment.get(), long.fragment_offset.get());
                self.file(
                    path,
                    long.start.get(),
                    long.size.get(),
                    fragment,
                    place,
                    long.xattrs.get(),
                )?
            }
            3 | 10 => {
                let target = Kind::Symlink(self.target(&mut place)?);
                Inode {
                    kind: target,
                    xattrs: self.trailing_xattrs(kind, place)?,
                }
            }
            4 | 5 | 11 | 12 => {
                let device: format::Device = image.read(&mut place)?;
                Inode {
                    kind: self::device(kind, device.number.get()),
                    xattrs: self.trailing_xattrs(kind, place)?,
                }
            }
            6 | 13 => {
                let _nlink: U32 = image.read(&mut place)?;
                Inode {
                    kind: Kind::Fifo,
                    xattrs: self.trailing_xattrs(kind, place)?,
                }
            }
            7 | 14 => return Err(Error::entry(path, "is a socket, which no image can hold")),
            other => {
                return Err(damaged(
                    place.block,
                    format!("inode type {other} is unknown"),
                ));
            }
        })
    }

    fn directory(&mut self, path: &[u8], block: u32, offset: u16, size: u32, xattrs: u32) -> Inode {
        let table = self.image.superblock.directory_table.get();
        let place = Place {
            block: table.saturating_add(block.into()),
            offset: offset.into(),
        };
        // The size counts `.` and `..`, which are not there, as three bytes.
        self.ahead.push(Listing {
            path: path.to_vec(),
            place,
            size: size.saturating_sub(3),
        });
        Inode {
            kind: Kind::Directory,
            xattrs,
        }
    }

    fn file(
        &mut self,
        path: &[u8],
        start: u64,
        size: u64,
        fragment: (u32, u32),
        mut place: Place,
        xattrs: u32,
    ) -> Result<Inode, Error> {
        let block_size = u64::from(self.image.superblock.block_size.get());
        let count = if fragment.0 == NONE {
            size.div_ceil(block_size)
        } else {
            size / block_size
        };
        let len = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(4))
            .unwrap_or(usize::MAX);
        self.budget.spend(len)?;
        let bytes = self.image.bytes(&mut place, len)?;
        let blocks = <[U32]>::ref_from_bytes(&bytes)
            .unwrap_or_default()
            .iter()
            .map(|size| size.get())
            .collect();
        let (image, path) = (self.image.clone(), path_of_bytes(path));
        let file: Arc<dyn Open> = Arc::new(ImageFile {
            image,
            path,
            size,
            start,
            blocks,
            fragment,
        });
        Ok(Inode {
            kind: Kind::File(Content::from_image(size, file)),
            xattrs,
        })
    }

    fn target(&mut self, place: &mut Place) -> Result<Vec<u8>, Error> {
        let symlink: format::Symlink = self.image.read(place)?;
        if symlink.size.get() > TARGET_MAX {
            return Err(damaged(
                place.block,
                "the target of a symbolic link is longer than 4095 bytes",
            ));
        }
        let len = usize::try_from(symlink.size.get()).unwrap_or_default();
        self.budget.spend(len)?;
        self.image.bytes(place, len)
    }

    /// The number of its attributes stands at the end of a long inode.
    fn trailing_xattrs(&self, kind: u16, mut place: Place) -> Result<u32, Error> {
        if kind > 7 {
            Ok(self.image.read::<U32>(&mut place)?.get())
        } else {
            Ok(NONE)
        }
    }

    /// The user or group that an inode names by its index.
    fn id(&self, index: u16) -> Result<u32, Error> {
        let superblock = &self.image.superblock;
        if index >= superblock.ids.get() {
            return Err(damaged(
                26,
                format!("owner {index} is not in the table of owners"),
            ));
        }
        Ok(self
            .image
            .entry::<U32>(superblock.id_table.get(), index.into())?
            .get())
    }

    fn xattrs(&mut self, number: u32) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut xattrs = BTreeMap::new();
        let table = self.image.superblock.xattr_table.get();
        if number == NONE || table == NO_TABLE {
            return Ok(xattrs);
        }
        let header: format::XattrTable = self.image.plain(table)?;
        if number >= header.count.get() {
            return Err(damaged(table, "extended attributes are not in their table"));
        }
        let list = table.saturating_add(size_of::<format::XattrTable>() as u64);
        let found: format::Xattrs = self.image.entry(list, number)?;
        let mut place = Place::new(header.start.get(), found.reference.get());
        for _ in 0..found.count.get() {
            let (name, value) = self.xattr(header.start.get(), &mut place)?;
            xattrs.insert(name, value);
        }
        Ok(xattrs)
    }

    fn xattr(&mut self, table: u64, place: &mut Place) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let xattr: format::Xattr = self.image.read(place)?;
        let prefix: &[u8] = match xattr.kind.get() & !OUT_OF_LINE {
            0 => b"user.",
            1 => b"trusted.",
            2 => b"security.",
            other => {
                return Err(damaged(
                    place.block,
                    format!("extended attribute type {other} is unknown"),
                ));
            }
        };
        let name = self.image.bytes(place, xattr.name_len.get().into())?;
        let mut value = self.value(place)?;
        if xattr.kind.get() & OUT_OF_LINE != 0 {
            let reference = <[u8; 8]>::try_from(value.as_slice()).map(u64::from_le_bytes);
            let reference = reference
                .map_err(|_| damaged(place.block, "reference to a value is not 8 bytes long"))?;
            value = self.value(&mut Place::new(table, reference))?;
        }
        Ok(([prefix, &name].concat(), value))
    }

    fn value(&mut self, place: &mut Place) -> Result<Vec<u8>, Error> {
        let len = self.image.read::<U32>(place)?.get();
        if len > VALUE_MAX {
            return Err(damaged(
                place.block,
                "the value of an extended attribute is longer than 65536 bytes",
            ));
        }
        let len = usize::try_from(len).unwrap_or_default();
        self.budget.spend(len)?;
        self.image.bytes(place, len)
    }
}

/// What is left of a directory of `left` bytes after `used` more.
fn shrink(left: u32, used: usize, place: Place) -> Result<u32, Error> {
    let used = u32::try_from(used).unwrap_or(u32::MAX);
    left.checked_sub(used)
        .ok_or_else(|| damaged(place.block, "directory is longer than it says"))
}

/// A device of inode types 4, 5, 11 and 12; the number is packed as by the kernel's `new_encode_dev`.
fn device(kind: u16, number: u32) -> Kind {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match kind {
        4 | 11 => Kind::BlockDevice { major, minor },
        _ => Kind::CharDevice { major, minor },
    }
}
