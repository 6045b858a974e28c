//! Writes squashfs images by the program mksquashfs, which reads the tree as a tar archive from a pipe.
//!
//! ```text
//! tree ─ tar ─ pipe ─ mksquashfs ─ unnamed temporary file ─ output
//! ```
//!
//! Names, hard links and extended attributes stand in records of POSIX.1-2001 before each header, which take any bytes; the
//! header has the numbers. mksquashfs 4.5.1 takes the leading slash off a symbolic link's target in such a record, so targets
//! stand in GNU tar's record for long ones, whatever their length.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;

use tar::{Builder, EntryType, Header};

use super::MKSQUASHFS;
use crate::erofs::Compression;
use crate::{Entry, Error, Kind, Tree};

/// The most of its complaint that is passed on.
const COMPLAINT_MAX: u64 = 4096;
/// Bytes that are compressed together unless asked otherwise, as mksquashfs has it.
const BLOCK: u32 = 128 * 1024;
/// Bytes that are copied at once.
const COPY: usize = 256 * 1024;

/// What an image says about itself beside its files, and how it holds them.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Time of the image in seconds since 1970.
    pub(crate) epoch: u64,
    /// How file data is compressed.
    pub(crate) compression: Compression,
    /// Bytes that are compressed together: a power of two from 4 KiB to 1 MiB, or the next one. `None`: 128 KiB.
    pub(crate) block: Option<u32>,
}

/// Writes `tree` as a squashfs image to `out`, and returns its size, a multiple of 4096. Equal trees give equal
/// bytes with the same version of mksquashfs. `progress` is told of bytes read since it was last told.
///
/// # Errors
///
/// [`Error::NotInstalled`] without mksquashfs, [`Error::Program`] with what it complained of,
/// [`Error::Read`] when a file cannot be read or has changed its size, [`Error::Write`] when `out` fails,
/// [`Error::Entry`] and [`Error::Value`] for what squashfs or this program cannot hold.
pub(crate) fn write(
    tree: &Tree,
    options: &Options,
    out: &mut impl Write,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<u64, Error> {
    let arguments = arguments(tree, options)?;
    let image = tempfile::tempfile().map_err(Error::write)?;
    let mut program = Command::new(MKSQUASHFS);
    let latest = latest(tree, options.epoch).to_string();
    program.env("SOURCE_DATE_EPOCH", latest).env("LC_ALL", "C");
    program.arg("-").arg(path_of(&image)).args(arguments);
    program.stdin(Stdio::piped()).stdout(Stdio::null());
    program.stderr(Stdio::piped());
    let mut running = program.spawn().map_err(not_started)?;
    let complaints = running.stderr.take();
    // Not into a file: the disk may be what is full.
    let listening = thread::spawn(|| complaints.map_or_else(String::new, complaint));
    let fed = match running.stdin.take() {
        Some(pipe) => feed(tree, pipe, progress),
        None => Ok(()),
    };
    let ended = running.wait().map_err(not_started)?;
    let complaint = listening.join().unwrap_or_default();
    let failed = Error::Program {
        program: MKSQUASHFS,
        what: complaint,
    };
    match fed {
        // A broken pipe: the program itself knows better.
        Err(Error::Write { .. }) => Err(failed),
        Err(other) => Err(other),
        Ok(()) if !ended.success() => Err(failed),
        Ok(()) => copy(image, out).map_err(Error::write),
    }
}

/// A way to a file that has no name.
fn path_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn arguments(tree: &Tree, options: &Options) -> Result<Vec<String>, Error> {
    let Some(root) = tree.get("") else {
        return Ok(Vec::new());
    };
    if !root.xattrs.is_empty() {
        let what = "extended attributes of the root directory have no place in squashfs";
        return Err(Error::entry(b".", what));
    }
    let codec = match options.compression {
        Compression::None => "-noI -noD -noF -noX".to_owned(),
        Compression::LZ4 => "-comp lz4 -Xhc".to_owned(),
        Compression::Lz4 { .. } => {
            return Err(Error::value("squashfs knows no levels of lz4"));
        }
        Compression::Zstd { level } => format!("-comp zstd -Xcompression-level {level}"),
    };
    let block = options.block.unwrap_or(BLOCK).next_power_of_two();
    let text = format!(
        "-tar -noappend -quiet -no-progress -b {} \
         -root-mode {:o} -root-uid {} -root-gid {} -root-time {} {codec}",
        block.clamp(4096, 1 << 20),
        root.mode,
        root.uid,
        root.gid,
        time(root)
    );
    Ok(text.split(' ').map(str::to_owned).collect())
}

/// The time of the image, after which nothing in it is: mksquashfs 4.5.1 gives the root directory the time of the build,
/// whatever it is told, but no time after this one.
fn latest(tree: &Tree, epoch: u64) -> u64 {
    tree.inodes()
        .map(|(.., entry)| time(entry))
        .fold(epoch, u64::max)
}

/// squashfs has 32 bits for it.
fn time(entry: &Entry) -> u64 {
    u32::try_from(entry.mtime).unwrap_or_default().into()
}

fn feed(
    tree: &Tree,
    pipe: impl Write,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), Error> {
    let mut archive = Builder::new(io::BufWriter::with_capacity(COPY, pipe));
    let mut paths: HashMap<usize, &[u8]> = HashMap::new();
    for (path, inode, entry) in tree.inodes().filter(|(path, ..)| !path.is_empty()) {
        match paths.insert(inode, path) {
            Some(another) => append_link(&mut archive, path, another)?,
            None => append(&mut archive, path, entry, progress)?,
        }
    }
    let mut pipe = archive.into_inner().map_err(Error::write)?;
    pipe.flush().map_err(Error::write)
}

/// Another name of what is in the archive.
fn append_link(archive: &mut Builder<impl Write>, path: &[u8], other: &[u8]) -> Result<(), Error> {
    let records = [("path".to_owned(), path), ("linkpath".to_owned(), other)];
    put(
        archive,
        &records,
        &mut header(EntryType::Link, 0),
        io::empty(),
    )
    .map_err(Error::write)
}

fn append(
    archive: &mut Builder<impl Write>,
    path: &[u8],
    entry: &Entry,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), Error> {
    let mut records = vec![("path".to_owned(), path)];
    for (name, value) in &entry.xattrs {
        let name = str::from_utf8(name).map_err(|_| {
            Error::entry(path, "an extended attribute has a name that is not UTF-8")
        })?;
        records.push((format!("SCHILY.xattr.{name}"), value));
    }
    let mut header = header(entry_type(&entry.kind), entry.mode.into());
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_mtime(time(entry));
    match &entry.kind {
        Kind::File(content) => {
            header.set_size(content.size());
            let mut reader = content.open()?;
            let mut failed = None;
            let watched = Watched {
                inner: &mut reader,
                progress,
                failed: &mut failed,
            };
            let written = put(archive, &records, &mut header, watched);
            // What could not be read, or else what the pipe said.
            let read = failed.map_or(Ok(()), |source| Err(content.error(source)));
            read.and(written.map_err(Error::write))?;
            return reader.finish();
        }
        Kind::Symlink(target) => put_target(archive, target).map_err(Error::write)?,
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            let set = header.set_device_major(*major);
            set.and(header.set_device_minor(*minor))
                .map_err(Error::write)?;
        }
        Kind::Directory | Kind::Fifo => {}
    }
    put(archive, &records, &mut header, io::empty()).map_err(Error::write)
}

/// The target of the symbolic link that comes next.
fn put_target(archive: &mut Builder<impl Write>, target: &[u8]) -> io::Result<()> {
    let content = [target, &[0]].concat();
    let mut header = header(EntryType::GNULongLink, 0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append(&header, &content[..])
}

fn put(
    archive: &mut Builder<impl Write>,
    records: &[(String, &[u8])],
    header: &mut Header,
    content: impl Read,
) -> io::Result<()> {
    let records = records.iter().map(|(key, value)| (key.as_str(), *value));
    archive.append_pax_extensions(records)?;
    header.set_cksum();
    archive.append(header, content)
}

/// The name in it is never looked at.
fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}

fn entry_type(kind: &Kind) -> EntryType {
    match kind {
        Kind::Directory => EntryType::Directory,
        Kind::File(_) => EntryType::Regular,
        Kind::Symlink(_) => EntryType::Symlink,
        Kind::CharDevice { .. } => EntryType::Char,
        Kind::BlockDevice { .. } => EntryType::Block,
        Kind::Fifo => EntryType::Fifo,
    }
}

/// Tells of what is read, and keeps its error apart from that of the writing.
struct Watched<'a, R> {
    inner: R,
    progress: &'a mut (dyn FnMut(u64) + Send),
    failed: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(read) => {
                (self.progress)(read as u64);
                Ok(read)
            }
            Err(error) => {
                *self.failed = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

/// Moves the finished image to its place.
fn copy(mut image: File, out: &mut impl Write) -> io::Result<u64> {
    image.rewind()?;
    let mut buffer = vec![0; COPY];
    let mut size = 0;
    loop {
        let read = image.read(&mut buffer)?;
        if read == 0 {
            return Ok(size);
        }
        out.write_all(buffer.get(..read).unwrap_or_default())?;
        size += read as u64;
    }
}

fn not_started(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotInstalled {
            program: MKSQUASHFS,
        },
        _ => Error::Program {
            program: MKSQUASHFS,
            what: source.to_string(),
        },
    }
}

/// The first line of what it says; the rest is read and forgotten, so that it never has to wait.
fn complaint(mut said: impl Read) -> String {
    let mut start = Vec::new();
    // What cannot be read stays unsaid.
    let _ = said.by_ref().take(COMPLAINT_MAX).read_to_end(&mut start);
    let _ = io::copy(&mut said, &mut io::sink());
    let start = String::from_utf8_lossy(&start);
    let first = start.lines().map(str::trim).find(|line| !line.is_empty());
    first.unwrap_or("it failed").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tree: &Tree, compression: Compression) -> Result<String, Error> {
        let options = Options {
            epoch: 7,
            compression,
            block: None,
        };
        arguments(tree, &options).map(|words| words.join(" "))
    }

    #[test]
    fn tells_what_the_archive_cannot() {
        let mut tree = Tree::new();
        *tree.get_mut("").unwrap() = Entry {
            uid: 5,
            gid: 6,
            mtime: 9,
            ..Entry::new(0o1750, Kind::Directory)
        };
        let usual = "-tar -noappend -quiet -no-progress -b 131072 -root-mode 1750 -root-uid 5 -root-gid 6 -root-time 9";
        for (compression, expected) in [
            (Compression::None, "-noI -noD -noF -noX"),
            (Compression::LZ4, "-comp lz4 -Xhc"),
            (
                Compression::Zstd { level: 19 },
                "-comp zstd -Xcompression-level 19",
            ),
        ] {
            assert_eq!(
                of(&tree, compression).unwrap(),
                format!("{usual} {expected}")
            );
        }
        assert_eq!([7, 11].map(|epoch| latest(&tree, epoch)), [9, 11]);
    }

    #[test]
    fn refuses_what_would_be_lost() {
        let mut tree = Tree::new();
        let refused = |tree: &Tree, compression| of(tree, compression).unwrap_err().to_string();
        assert_eq!(
            refused(&tree, Compression::Lz4 { level: 3 }),
            "squashfs knows no levels of lz4"
        );
        let root = tree.get_mut("").unwrap();
        root.xattrs.insert(b"user.a".to_vec(), Vec::new());
        assert_eq!(
            refused(&tree, Compression::None),
            "`.`: extended attributes of the root directory have no place in squashfs"
        );
    }

    #[test]
    fn an_archive_has_long_names_of_any_bytes_and_each_file_once() {
        let mut tree = Tree::new();
        let name = [&[b'n'; 200][..], b"\xff"].concat();
        tree.insert(&name, Entry::file("text")).unwrap();
        tree.link(&name, "z").unwrap();
        let mut bytes = Vec::new();
        feed(&tree, &mut bytes, &mut |_| {}).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let link = entry.link_name_bytes().map(|link| link.into_owned());
                (entry.path_bytes().into_owned(), entry.size(), link)
            })
            .collect();
        assert_eq!(
            found,
            [(name.clone(), 4, None), (b"z".to_vec(), 0, Some(name))]
        );
    }

    #[test]
    fn an_archive_has_the_targets_of_links_in_no_record() {
        let targets = [
            "/usr/x".into(),
            "../x".into(),
            "a".repeat(99),
            "b".repeat(100),
            "/c".repeat(2000),
        ];
        let mut tree = Tree::new();
        for (number, target) in targets.iter().enumerate() {
            tree.insert(number.to_string(), Entry::symlink(target.as_bytes()))
                .unwrap();
        }
        let mut bytes = Vec::new();
        feed(&tree, &mut bytes, &mut |_| {}).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        for (entry, target) in archive.entries().unwrap().zip(&targets) {
            let mut entry = entry.unwrap();
            assert_eq!(entry.link_name_bytes().unwrap(), target.as_bytes());
            let records = entry.pax_extensions().unwrap().unwrap();
            let keys: Vec<_> = records
                .map(|record| record.unwrap().key_bytes().to_vec())
                .collect();
            assert_eq!(keys, [b"path"]);
        }
    }
}
