//! Writes what regular files hold, and tells their inodes where it is.
//!
//! ```text
//! uncompressed     blocks of each file …            what does not fill a block stands behind the inode
//! compressed       clusters of large files … │ clusters of the packed inode …
//! ```

use std::collections::{HashMap, VecDeque};
use std::io::{Seek, Write};

use super::compress::Compression;
use super::format::NO_BLOCK;
use super::image::Image;
use super::index::{self, Extent, Fragment};
use super::inode::Inode;
use super::packed::{Packing, Part, Selection};
use super::pieces::{Encoders, Piece, Progress, Store};
use super::writer::Options;
use crate::Error;
use crate::tree::{Content, ContentReader, Entry};

/// Writes the data of all files; returns the packed inode's index, if there is one.
pub(super) fn write<'t, W: Write + Seek + Send>(
    inodes: &mut Vec<Inode<'t>>,
    packed: &'t Entry,
    options: &Options,
    image: &mut Image<W>,
    progress: Progress<'_>,
) -> Result<Option<usize>, Error> {
    let (compression, cluster) = (options.compression, options.cluster());
    let selection = match compression {
        Compression::None => Selection::default(),
        _ => Selection::of(inodes, cluster.into()),
    };
    let encoders = Encoders::new(compression, cluster);
    let mut store = Store::new(image, progress);
    let repeated = repeated_sizes(inodes);
    let shared = |inode: &Inode<'_>| repeated.get(&inode.size).is_some_and(|&count| count > 1);

    let mut files = Files::new(inodes, &selection, options, shared);
    store.write(&encoders, || files.next())?;
    let mut tails = files.tails;

    let part = |(index, inode): (usize, &Inode<'t>)| {
        let part = if selection.whole.contains(&index) {
            Part::Whole(inode.file()?)
        } else if selection.ends.contains(&index) {
            Part::End(tails.remove(&index)?)
        } else {
            return None;
        };
        Some((index, part, shared(inode)))
    };
    let parts = inodes.iter().enumerate().filter_map(part).collect();
    let mut packing = Packing::new(parts, inodes, cluster);
    store.write(&encoders, || packing.next())?;

    let mut extents = store.extents;
    let packed = if packing.size > 0 {
        inodes.push(packed_inode(packed, packing.size, options.epoch)?);
        Some(inodes.len() - 1)
    } else {
        None
    };
    for (index, inode) in inodes.iter_mut().enumerate() {
        if inode.file().is_some() {
            let extents = extents.remove(&index).unwrap_or_default();
            let fragment = packing.fragments.get(&index).copied();
            let tail = tails.remove(&index).unwrap_or_default();
            settle(inode, &extents, fragment, tail, compression);
        }
    }
    Ok(packed)
}

/// No directory names it.
fn packed_inode(entry: &Entry, size: u64, epoch: u64) -> Result<Inode<'_>, Error> {
    let mut inode = Inode::new(b"", entry)?;
    inode.nlink = 1;
    inode.size = size;
    inode.shape(epoch);
    Ok(inode)
}

/// How many files have each size: only those of one size can be the same.
fn repeated_sizes(inodes: &[Inode<'_>]) -> HashMap<u64, u32> {
    let mut sizes = HashMap::new();
    for inode in inodes.iter().filter(|inode| inode.file().is_some()) {
        *sizes.entry(inode.size).or_insert(0) += 1;
    }
    sizes
}

/// Tells an inode where its data is.
fn settle(
    inode: &mut Inode<'_>,
    extents: &[Extent],
    fragment: Option<Fragment>,
    tail: Vec<u8>,
    compression: Compression,
) {
    let plain = extents.iter().all(|extent| !extent.compressed);
    if plain && fragment.is_none() && index::follow_each_other(extents) {
        let start = extents.first().map_or(NO_BLOCK, |first| first.start);
        inode.place(start, tail);
        return;
    }
    (inode.layout, inode.behind) =
        index::map(inode.head(), extents, fragment, compression.algorithm());
    inode.data = extents.iter().map(|extent| extent.blocks).sum();
}

/// A file and how it is cut.
struct File<'t> {
    inode: usize,
    content: &'t Content,
    /// Bytes that go into pieces; the rest is its tail.
    in_pieces: u64,
    shared: bool,
}

/// The files that are not packed as a whole, in pieces.
struct Files<'t> {
    ahead: VecDeque<File<'t>>,
    open: Option<(File<'t>, ContentReader<'t>)>,
    cluster: u64,
    /// By inode, what is behind the pieces of those that have been read.
    tails: HashMap<usize, Vec<u8>>,
}

impl<'t> Files<'t> {
    fn new(
        inodes: &[Inode<'t>],
        selection: &Selection,
        options: &Options,
        shared: impl Fn(&Inode<'t>) -> bool,
    ) -> Self {
        let cluster = u64::from(options.cluster());
        let file = |(index, inode): (usize, &Inode<'t>)| {
            let content = inode.file()?;
            let tail = if selection.ends.contains(&index) {
                inode.size % cluster
            } else if options.compression == Compression::None || inode.size == inode.tail() {
                inode.tail()
            } else {
                0
            };
            let in_pieces = inode.size - tail;
            // Only an index can speak of pieces here and there.
            let apart = options.compression != Compression::None || in_pieces <= cluster;
            (!selection.whole.contains(&index)).then(|| File {
                inode: index,
                content,
                in_pieces,
                shared: apart && shared(inode),
            })
        };
        Self {
            ahead: inodes.iter().enumerate().filter_map(file).collect(),
            open: None,
            cluster,
            tails: HashMap::new(),
        }
    }

    fn next(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            let (file, reader) = match self.open.take() {
                Some(open) => open,
                None => match self.ahead.pop_front() {
                    Some(file) => {
                        let reader = file.content.open()?;
                        (file, reader)
                    }
                    None => return Ok(None),
                },
            };
            if file.in_pieces > 0 {
                return self.piece(file, reader).map(Some);
            }
            self.finish(&file, reader)?;
        }
    }

    fn piece(&mut self, mut file: File<'t>, mut reader: ContentReader<'t>) -> Result<Piece, Error> {
        let len = file.in_pieces.min(self.cluster);
        let bytes = read(&mut reader, len)?;
        file.in_pieces -= len;
        let piece = Piece {
            inode: file.inode,
            bytes,
            shared: file.shared,
        };
        self.open = Some((file, reader));
        Ok(piece)
    }

    fn finish(&mut self, file: &File<'t>, mut reader: ContentReader<'t>) -> Result<(), Error> {
        let len = reader.left();
        if len > 0 {
            self.tails.insert(file.inode, read(&mut reader, len)?);
        }
        reader.finish()
    }
}

/// The next `len` bytes, at most a cluster.
fn read(reader: &mut ContentReader<'_>, len: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    reader.fill(&mut bytes)?;
    Ok(bytes)
}
