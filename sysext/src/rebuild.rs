//! Proves that an image is what a tree gives: the tree is built again with what was chosen for the image, and compared
//! with it byte by byte on the way. Nothing is written anywhere.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::erofs::{self, Compression, Facts, Options};
use crate::{Check, Differing, Error, Finding, Image, Plan, Tree};

/// How an image compares with what a plan gives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebuilt {
    /// Every byte of the data partition is the same; this is how it was compressed. Hash tree and signature are
    /// over these bytes, so they are not made again.
    Same(Compression),
    /// The files differ.
    Files(Vec<Differing>),
    /// The files are the same, but were written in another way: how. The tool, its version or an option differs.
    Written(String),
}

impl<R: Read + Seek + Send + 'static> Image<R> {
    /// Builds `plan` again and compares. What the image tells takes the place of what the plan says: epoch,
    /// architecture, compression, cluster, UUID, and its release file where the tree has none. `progress` is told of bytes read.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for an image without readable files and for a tree that could not be built,
    /// [`Error::Read`], [`Error::ReadImage`].
    pub fn rebuild(
        &self,
        plan: &Plan,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Rebuilt, Error> {
        let data = self.data(&self.partitions());
        let data = data.ok_or_else(|| {
            Error::from(Finding::new(
                Check::Partitions,
                "image",
                "has no data partition",
            ))
        })?;
        let (kind, files) = data.files()?;
        if kind != "erofs" {
            return Ok(Rebuilt::Written(format!(
                "as {kind}, which is not written again"
            )));
        }
        let facts = Facts::read(&mut data.window())?;
        let mut plan = plan.clone();
        plan.epoch = facts.epoch;
        plan.architecture = data.architecture.unwrap_or(plan.architecture);
        let tree = adopt(plan, &files)?;
        let differing = files.compare_with_times(&tree)?;
        if !differing.is_empty() {
            return Ok(Rebuilt::Files(differing));
        }
        let mut furthest = 0;
        for compression in candidates(&facts.codecs()) {
            let mut options = Options::new(facts.uuid, facts.epoch);
            options.volume_name = facts.volume_name;
            options.compression = compression;
            options.cluster = facts.cluster;
            let mut image = Compared::new(data.window());
            let written = erofs::write(&tree, &options, &mut image, progress);
            match (image.differs, written) {
                (Some(at), _) => furthest = furthest.max(at),
                (None, Err(error)) => return Err(error),
                (None, Ok(size)) if size != data.size => furthest = furthest.max(size),
                (None, Ok(_)) => return Ok(Rebuilt::Same(compression)),
            }
        }
        Ok(Rebuilt::Written(format!(
            "in other bytes from byte {furthest} of the data on"
        )))
    }
}

/// The tree that `plan` puts into an image, with the release file of `files` unless it brings its own.
fn adopt(mut plan: Plan, files: &Tree) -> Result<Tree, Error> {
    let path = plan.release_path();
    if plan.tree.get(&path).is_none()
        && let Some(release) = files.get(&path)
    {
        plan.tree.insert(&path, release.clone())?;
    }
    plan.prepare().map(|(tree, _)| tree)
}

/// Every way such an image may have been written. The level is not in it; but a wrong one shows in the first
/// cluster, so most cost little.
fn candidates(codecs: &[&str]) -> Vec<Compression> {
    let levels = |usual: Compression, most: u8, with: fn(u8) -> Compression| {
        let all = (1..=most).map(with).filter(move |other| *other != usual);
        std::iter::once(usual).chain(all).collect()
    };
    match codecs {
        // Where nothing shrinks, no codec is named.
        [] => vec![Compression::None, Compression::LZ4, Compression::ZSTD],
        ["lz4"] => levels(Compression::LZ4, 12, |level| Compression::Lz4 { level }),
        ["zstd"] => levels(Compression::ZSTD, 22, |level| Compression::Zstd { level }),
        _ => Vec::new(),
    }
}

/// Compares what is written with what is there, and stops the writer where they differ.
struct Compared<R> {
    there: R,
    at: u64,
    /// The first byte that was written and differs.
    differs: Option<u64>,
    buffer: Vec<u8>,
}

impl<R> Compared<R> {
    fn new(there: R) -> Self {
        Self {
            there,
            at: 0,
            differs: None,
            buffer: Vec::new(),
        }
    }
}

impl<R: Read + Seek> Write for Compared<R> {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        self.buffer.clear();
        self.there.seek(SeekFrom::Start(self.at))?;
        self.there
            .by_ref()
            .take(written.len() as u64)
            .read_to_end(&mut self.buffer)?;
        if self.buffer != written {
            let equal = self
                .buffer
                .iter()
                .zip(written)
                .take_while(|(there, new)| there == new)
                .count();
            self.differs = Some(self.at + equal as u64);
            return Err(io::Error::other("it differs"));
        }
        self.at += written.len() as u64;
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Read + Seek> Seek for Compared<R> {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.at = match target {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        }
        .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Architecture, Certificate, Entry, KeyPair, PrivateKey, vector};

    fn plan(files: &[(&str, &[u8])]) -> Plan {
        let mut tree = Tree::new();
        for (path, bytes) in files {
            tree.insert(path, Entry::file(*bytes)).unwrap();
        }
        Plan::new("demo".parse().unwrap(), Architecture::X86_64, tree)
    }

    fn bytes(plan: &Plan) -> Vec<u8> {
        let key = PrivateKey::from_pem(&vector::key("rsa2048.key"), None).unwrap();
        let certificate = Certificate::from_pem(&vector::key("rsa2048.crt")).unwrap();
        let mut out = Cursor::new(Vec::new());
        plan.build(&KeyPair::new(key, certificate).unwrap(), &mut out)
            .unwrap();
        out.into_inner()
    }

    fn built(plan: &Plan) -> Image<Cursor<Vec<u8>>> {
        Image::open(Cursor::new(bytes(plan))).unwrap()
    }

    /// Compresses well, and differently at each level.
    fn text() -> Vec<u8> {
        (0..40_000_u32)
            .flat_map(|line| format!("{} {}\n", line * 7919 % 1013, line % 97).into_bytes())
            .collect()
    }

    #[test]
    fn what_was_chosen_is_found_again() {
        let text = text();
        let given = plan(&[("usr/lib/text", &text), ("usr/lib/small", b"x")]);
        for compression in ["none", "lz4", "lz4,1", "zstd", "zstd,7"] {
            let mut chosen = given.clone();
            chosen.compression = compression.parse().unwrap();
            chosen.epoch = 1_700_000_000;
            chosen.seed = Some(crate::Guid::from_bytes([3; 16]));
            chosen.release.set("EXTENSION_RELOAD_MANAGER", "1").unwrap();
            let rebuilt = built(&chosen).rebuild(&given, &mut |_| {}).unwrap();
            assert_eq!(rebuilt, Rebuilt::Same(chosen.compression), "{compression}");
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        let image = built(&plan(&[("usr/a", b"same"), ("usr/b", b"this")]));
        let other = plan(&[("usr/a", b"same"), ("usr/b", b"that")]);
        let Rebuilt::Files(differing) = image.rebuild(&other, &mut |_| {}).unwrap() else {
            panic!("no difference")
        };
        assert_eq!(differing[0].to_string(), "usr/b: content from byte 2 on");
    }

    #[test]
    fn what_no_tree_gives_is_told() {
        let image = Image::open(Cursor::new(vector::image("erofs"))).unwrap();
        let mut same = plan(&[]);
        same.name = "tiny-a".parse().unwrap();
        same.tree = image.tree().unwrap();
        same.preserve_owner = true;
        same.packages = crate::Packages::None;
        let Rebuilt::Files(differing) = image.rebuild(&same, &mut |_| {}).unwrap() else {
            panic!("no difference")
        };
        let differing: Vec<&[u8]> = differing.iter().map(|one| one.path.as_slice()).collect();
        // systemd-repart 262 leaves attributes on the root.
        let expected: [&[u8]; 2] = [b"", b"usr/share/tiny-a/xattr-trusted"];
        assert_eq!(differing, expected);
    }

    #[test]
    fn a_foreign_writer_is_told_from_other_files() {
        let given = plan(&[("usr/a", b"same")]);
        // Before the superblock, where nobody reads.
        let mut image = bytes(&given);
        image[20480 + 100] = 1;
        let image = Image::open(Cursor::new(image)).unwrap();
        assert_eq!(
            image.rebuild(&given, &mut |_| {}).unwrap(),
            Rebuilt::Written("in other bytes from byte 100 of the data on".into())
        );
        let squashfs = Image::open(Cursor::new(vector::image("squashfs"))).unwrap();
        assert_eq!(
            squashfs.rebuild(&given, &mut |_| {}).unwrap(),
            Rebuilt::Written("as squashfs, which is not written again".into())
        );
    }
}
