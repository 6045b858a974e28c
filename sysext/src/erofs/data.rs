//! Writes what regular files hold, and tells their inodes where it is.
//!
//! ```text
//! uncompressed     blocks of each file …            what does not fill a block stands behind the inode of a small one
//! compressed       clusters of large files … │ clusters of the packed inode …
//! ```

use super::compress::Compression;
use super::format::NO_BLOCK;
use super::image::Image;
use super::index::{self, Extent, Fragment};
use super::inode::Inode;
use super::output::Output;
use super::packed::{Packing, Part, Selection};
use super::pieces::{Buffers, Encoders, Piece, Progress, Store};
use super::writer::Options;
use super::xattr::Shared;
use crate::Error;
use crate::tree::{Content, ContentReader, Entry};
use std::collections::{HashMap, VecDeque};

/// Writes the data of all files; returns the packed inode's index, if there is one.
pub(super) fn write<'t, W: Output>(
    inodes: &mut Vec<Inode<'t>>,
    packed: &'t Entry,
    options: &Options,
    image: &mut Image<'_, W>,
    progress: Progress<'_>,
) -> Result<Option<usize>, Error> {
    let (compression, cluster) = (options.compression, options.cluster());
    let selection = match compression {
        Compression::None => Selection::default(),
        _ => Selection::of(inodes, cluster.into()),
    };
    let encoders = Encoders::new(compression, cluster, image.digester());
    let mut store = Store::new(image, progress);
    let repeated = repeated_sizes(inodes);
    let shared = |inode: &Inode<'_>| repeated.get(&inode.size).is_some_and(|&count| count > 1);

    let mut files = Files::new(inodes, &selection, options, shared);
    store.write(&encoders, || files.next(&encoders.buffers))?;
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
            match compression {
                Compression::None => settle_plain(inode, &extents, tail, cluster),
                _ => settle(inode, &extents, fragment, tail, compression),
            }
        }
    }
    Ok(packed)
}

/// No directory names it.
fn packed_inode(entry: &Entry, size: u64, epoch: u64) -> Result<Inode<'_>, Error> {
    let mut inode = Inode::new(b"", entry, &Shared::default())?;
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

/// Tells an inode of an uncompressed image where its data is.
fn settle_plain(inode: &mut Inode<'_>, extents: &[Extent], tail: Vec<u8>, cluster: u32) {
    let whole = extents.iter().all(|extent| extent.start != NO_BLOCK);
    if whole && index::follow_each_other(extents) {
        place(inode, extents, tail);
    } else {
        (inode.layout, inode.data, inode.behind) = index::chunks(extents, cluster);
    }
}

fn place(inode: &mut Inode<'_>, extents: &[Extent], tail: Vec<u8>) {
    let start = extents.first().map_or(NO_BLOCK, |first| first.start);
    inode.place(start, tail);
}

/// Tells an inode of a compressed image where its data is.
fn settle(
    inode: &mut Inode<'_>,
    extents: &[Extent],
    fragment: Option<Fragment>,
    tail: Vec<u8>,
    compression: Compression,
) {
    let plain = extents.iter().all(|extent| !extent.compressed);
    if plain && fragment.is_none() && index::follow_each_other(extents) {
        return place(inode, extents, tail);
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
    sparse: bool,
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
            let plain = options.compression == Compression::None;
            // An index speaks of whole files alone.
            let tail = if selection.ends.contains(&index) {
                inode.size % cluster
            } else if plain && inode.size <= cluster || inode.size == inode.tail() {
                inode.tail()
            } else {
                0
            };
            (!selection.whole.contains(&index)).then(|| File {
                inode: index,
                content,
                in_pieces: inode.size - tail,
                shared: shared(inode),
                sparse: inode.size > cluster,
            })
        };
        Self {
            ahead: inodes.iter().enumerate().filter_map(file).collect(),
            open: None,
            cluster,
            tails: HashMap::new(),
        }
    }

    fn next(&mut self, buffers: &Buffers) -> Result<Option<Piece>, Error> {
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
                return self.piece(file, reader, buffers).map(Some);
            }
            self.finish(&file, reader)?;
        }
    }

    fn piece(
        &mut self,
        mut file: File<'t>,
        mut reader: ContentReader<'t>,
        buffers: &Buffers,
    ) -> Result<Piece, Error> {
        let len = file.in_pieces.min(self.cluster);
        let mut bytes = buffers.take(usize::try_from(len).unwrap_or_default());
        reader.fill(&mut bytes)?;
        file.in_pieces -= len;
        let piece = Piece {
            inode: file.inode,
            bytes,
            shared: file.shared,
            sparse: file.sparse,
        };
        self.open = Some((file, reader));
        Ok(piece)
    }

    fn finish(&mut self, file: &File<'t>, mut reader: ContentReader<'t>) -> Result<(), Error> {
        let left = usize::try_from(reader.left()).unwrap_or_default();
        if left > 0 {
            let mut tail = vec![0; left];
            reader.fill(&mut tail)?;
            self.tails.insert(file.inode, tail);
        }
        reader.finish()
    }
}
