//! From a tree to a signed image: file system, hash tree, signature, partition table.
//!
//! ```text
//! 0        20480                                                          size
//! │ table  │ data: files │ verity: superblock, hashes │ signature │ table │
//!            hashed as it is written                    4096 or more
//! ```
//!
//! Every byte follows from the plan and the key; all UUIDs and the salt from the seed, by the same
//! formulas as in `systemd-repart`.

use std::fmt;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::content::{self, Identity, Rules};
use crate::erofs::Compression;
use crate::finding::Findings;
use crate::gpt::{self, Partition, Table};
use crate::image::PartitionDescription;
use crate::signature::{self, SignedRootHash};
use crate::verity::{BLOCK_SIZE, HashTree};
use crate::{
    Architecture, Certificate, Certificates, Check, Designator, Entry, Error, FileContexts, Guid,
    ImageClass, Manifest, Name, PackageDatabase, PackageRecord, PartitionType, Release, Role,
    RootHash, RootHashSignature, Scope, Signer, Tree, erofs, escape, squashfs,
};

/// What an extension image is to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// Its name.
    pub name: Name,
    /// What it extends.
    pub class: ImageClass,
    /// The machine it is for.
    pub architecture: Architecture,
    /// Its files. The release file is added unless it is there.
    pub tree: Tree,
    /// Fields for the release file, in addition to or instead of those that follow from the rest. A
    /// release file in the tree must agree with them.
    pub release: Release,
    /// The `os-release` of what it extends. `None`: it fits everything, `ID=_any`.
    pub base: Option<Release>,
    /// Where it is merged.
    pub scopes: Vec<Scope>,
    /// What all UUIDs and the salt follow from. `None`: name and release file.
    pub seed: Option<Guid>,
    /// The latest time of a file, in seconds since 1970.
    pub epoch: u64,
    /// The file system that holds its files.
    pub format: Format,
    /// How its files are compressed.
    pub compression: Compression,
    /// Bytes that are compressed together: a power of two from 4 KiB to 1 MiB, or the next one. `None`: what
    /// suits the codec.
    pub cluster: Option<u32>,
    /// Whether files keep their owners. Else all become root's.
    pub preserve_owner: bool,
    /// What is set on files beyond what the tree says.
    pub manifest: Option<Manifest>,
    /// The SELinux labels of its files. `None`: they have none.
    pub contexts: Option<FileContexts>,
    /// Whether and how the packages of its files are recorded.
    pub packages: Packages,
}

/// A file system of an image. Parsed from and shown as `erofs` and `squashfs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Written by this library: the same tree always gives the same bytes.
    #[default]
    Erofs,
    /// Written by the program mksquashfs; another version of it may give other bytes.
    Squashfs,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
        })
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Erofs, Self::Squashfs]
            .into_iter()
            .find(|format| format.to_string() == text)
            .ok_or_else(|| Error::value(format!("`{text}` is neither erofs nor squashfs")))
    }
}

/// Whether an extension carries a [`PackageRecord`].
#[derive(Debug, Clone, Default)]
pub enum Packages {
    /// It does not.
    None,
    /// It does if a file has a note of its package.
    #[default]
    Noted,
    /// It does, with what this database knows beyond the notes.
    Database(PackageDatabase),
}

/// What became of a plan.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// What the signature is over.
    pub root_hash: RootHash,
    /// Of the image, in bytes.
    pub size: u64,
    /// What all UUIDs and the salt followed from.
    pub seed: Guid,
    /// Its release file.
    pub release: Release,
    /// Its partitions.
    pub partitions: Vec<PartitionDescription>,
}

impl Plan {
    /// A sysext for every base, merged in the initrd, with epoch 0, compressed so that every kernel
    /// reads it.
    pub fn new(name: Name, architecture: Architecture, tree: Tree) -> Self {
        Self {
            name,
            class: ImageClass::Sysext,
            architecture,
            tree,
            release: Release::default(),
            base: None,
            scopes: vec![Scope::Initrd],
            seed: None,
            epoch: 0,
            format: Format::Erofs,
            compression: Compression::LZ4,
            cluster: None,
            preserve_owner: false,
            manifest: None,
            contexts: None,
            packages: Packages::default(),
        }
    }

    /// Checks that the extension will be merged where it is meant to be.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with each rule it breaks, [`Error::Entry`] when the release file finds no place.
    pub fn check(&self) -> Result<(), Error> {
        self.prepare().map(drop)
    }

    /// Writes the image to `out`, all bytes from 0 on, each once.
    ///
    /// # Errors
    ///
    /// As [`Plan::check`], before anything is written; [`Error::Read`] for a file of the tree,
    /// [`Error::Write`], and what the signer says.
    pub fn build(
        &self,
        signer: &dyn Signer,
        out: &mut (impl Write + Seek + Send),
    ) -> Result<Report, Error> {
        self.build_watched(signer, out, &mut |_| {})
    }

    /// As [`Plan::build`]; `progress` is told how many bytes of files were read since it was last told.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn build_watched(
        &self,
        signer: &dyn Signer,
        out: &mut (impl Write + Seek + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Report, Error> {
        self.write(&|root_hash| sign(signer, root_hash), out, progress)
    }

    /// As [`Plan::build_watched`], but with an empty signature partition: nothing merges such an image until
    /// [`Image::attach`](crate::Image::attach) fills it.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn build_unsigned(
        &self,
        out: &mut (impl Write + Seek + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Report, Error> {
        self.write(&|_| Ok(vec![0; BLOCK_SIZE as usize]), out, progress)
    }

    fn write(
        &self,
        signature: &dyn Fn(&RootHash) -> Result<Vec<u8>, Error>,
        out: &mut (impl Write + Seek + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Report, Error> {
        let (tree, release) = self.prepare()?;
        let seed = self.seed.unwrap_or_else(|| self.derived_seed(&release));
        let ids = Identifiers {
            seed,
            architecture: self.architecture,
        };
        let mut out = BufWriter::with_capacity(erofs::BUFFER, out);
        out.seek(SeekFrom::Start(gpt::FRONT_SIZE))
            .map_err(Error::write)?;

        let mut hashed = HashTree::new(&mut out, ids.salt());
        let data_size = match self.format {
            Format::Erofs => {
                let mut options = erofs::Options::new(*ids.file_system().as_bytes(), self.epoch);
                options.compression = self.compression;
                options.cluster = self.cluster;
                erofs::write_to(&tree, &options, &mut hashed, progress)?
            }
            Format::Squashfs => {
                let options = squashfs::Options {
                    epoch: self.epoch,
                    compression: self.compression,
                    block: self.cluster,
                };
                squashfs::write(&tree, &options, &mut hashed, progress)?
            }
        };
        let (root_hash, hashes) = hashed.finish(ids.verity()).map_err(Error::write)?;
        out.write_all(&hashes).map_err(Error::write)?;

        let signature = signature(&root_hash)?;
        out.write_all(&signature).map_err(Error::write)?;

        let sizes = [data_size, hashes.len() as u64, signature.len() as u64];
        let table = ids.table(&root_hash, sizes);
        let size = gpt::FRONT_SIZE + sizes.iter().sum::<u64>() + gpt::BACKUP_SIZE;
        out.write_all(&gpt::backup(&table, size))
            .map_err(Error::write)?;
        out.seek(SeekFrom::Start(0)).map_err(Error::write)?;
        out.write_all(&gpt::front(&table, size))
            .map_err(Error::write)?;
        out.flush().map_err(Error::write)?;

        let partitions = table
            .partitions
            .iter()
            .map(PartitionDescription::from)
            .collect();
        Ok(Report {
            root_hash,
            size,
            seed,
            release,
            partitions,
        })
    }

    /// The tree as it goes into the image, with its release file, which is also returned.
    pub(crate) fn prepare(&self) -> Result<(Tree, Release), Error> {
        let mut tree = self.tree.clone();
        let path = self.release_path();
        if tree.get(&path).is_none() {
            tree.insert(&path, Entry::file(self.default_release().to_string()))?;
        }
        self.record_packages(&mut tree)?;
        self.normalize(&mut tree)?;

        let file_name = format!("{}.{}.raw", self.name, self.class);
        let rules = Rules {
            file_name: Some(&file_name),
            base: self.base.as_ref(),
            scopes: &self.scopes,
            architecture: Some(self.architecture),
        };
        let mut findings = Findings::default();
        content::check(&tree, Designator::Root, &rules, &mut findings)?;
        self.check_modes(&tree, &mut findings);
        self.check_release_files(&tree, &mut findings);
        let identity =
            findings.keep(content::identity(&tree, Designator::Root, Some(&file_name)))?;
        if let Some(identity) = &identity {
            self.check_agreement(identity, &mut findings);
        }
        let release = identity
            .map(|identity| identity.release)
            .unwrap_or_default();
        findings.verdict((tree, release))
    }

    /// Where the release file belongs.
    pub(crate) fn release_path(&self) -> String {
        let directory = self.class.release_directory(Designator::Root);
        format!("{directory}/extension-release.{}", self.name)
    }

    /// Takes away what is of the machine that built it, and adds what was asked for.
    fn normalize(&self, tree: &mut Tree) -> Result<(), Error> {
        // The root is not merged; its mode says how somebody made the directory.
        if let Some(root) = tree.get_mut("") {
            root.mode = content::OPEN;
            root.xattrs.clear();
        }
        if !self.preserve_owner {
            tree.own_by_root();
        }
        tree.retain_xattrs(crate::is_portable_xattr);
        if let Some(manifest) = &self.manifest {
            manifest.apply(tree)?;
        }
        if let Some(contexts) = &self.contexts {
            contexts.apply(tree)?;
        }
        tree.clamp_times(i64::try_from(self.epoch).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Adds the record of packages, unless the tree brings one.
    fn record_packages(&self, tree: &mut Tree) -> Result<(), Error> {
        let database = match &self.packages {
            Packages::None => return Ok(()),
            Packages::Noted => None,
            Packages::Database(database) => Some(database),
        };
        let path = PackageRecord::path(&self.release_path());
        if tree.get(&path).is_none()
            && let Some(record) = PackageRecord::of(tree, database)?
        {
            tree.insert(&path, Entry::file(record.to_json()))?;
        }
        Ok(())
    }

    /// A release file of another name is most likely meant to be this one's, and merged it would shadow that of
    /// the extension it names.
    fn check_release_files(&self, tree: &Tree, findings: &mut Findings) {
        let own = self.release_path();
        let prefix = format!(
            "{}/extension-release.",
            self.class.release_directory(Designator::Root)
        );
        let others = tree
            .iter()
            .filter(|(path, _)| path.starts_with(prefix.as_bytes()) && *path != own.as_bytes());
        for (path, _) in others {
            let what = format!("is for an extension of another name, not `{}`", self.name);
            findings.add(Check::Content, escape(path), what);
        }
    }

    /// A directory that others cannot enter may be meant so, but mostly tells of the umask of who made it.
    fn check_modes(&self, tree: &Tree, findings: &mut Findings) {
        let meant = |path: &[u8]| {
            self.manifest
                .as_ref()
                .is_some_and(|manifest| manifest.sets_mode(path))
        };
        for (path, entry) in tree.iter() {
            let is_closed = entry.is_directory() && entry.mode & content::OPEN != content::OPEN;
            if is_closed && !content::is_shared(path) && !meant(path) {
                findings.add(Check::Content, escape(path), content::closed(entry.mode));
            }
        }
    }

    fn default_release(&self) -> Release {
        let mut release = Release::fitting(self.base.as_ref(), self.class);
        let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        release.put(self.class.scope_field(), &scopes.join(" "));
        release.put("ARCHITECTURE", self.architecture.as_str());
        for (key, value) in self.release.iter() {
            release.put(key, value);
        }
        release
    }

    /// A release file in the tree stays as it is, so it must say what was asked for.
    fn check_agreement(&self, found: &Identity, findings: &mut Findings) {
        for (key, value) in self.release.iter() {
            let own = found.release.value(key).unwrap_or_default();
            if own != value {
                let what = format!("{key}={own}, but {key}={value} was asked for");
                findings.add(Check::Content, found.path.as_str(), what);
            }
        }
    }

    fn derived_seed(&self, release: &Release) -> Guid {
        let text = format!("ukikit extension\0{}\0{release}", self.name);
        Guid::from_bytes(first_16(Sha256::digest(text).into()))
    }
}

/// The signature partition. Whatever the signer is, what it made is checked before it is written.
fn sign(signer: &dyn Signer, root_hash: &RootHash) -> Result<Vec<u8>, Error> {
    signature_partition(signer.sign(root_hash)?, signer.certificate(), root_hash)
}

/// The signature partition with a signature that was checked.
pub(crate) fn signature_partition(
    signature: RootHashSignature,
    certificate: &Certificate,
    root_hash: &RootHash,
) -> Result<Vec<u8>, Error> {
    let trusted = Certificates::new([certificate.clone()]);
    signature::check(&signature, root_hash, &trusted)?;
    let mut partition = SignedRootHash::new(*root_hash, certificate, signature).to_text();
    partition.resize(partition.len().next_multiple_of(BLOCK_SIZE as usize), 0);
    Ok(partition)
}

/// What follows from the seed.
struct Identifiers {
    seed: Guid,
    architecture: Architecture,
}

impl Identifiers {
    fn salt(&self) -> [u8; 32] {
        keyed(self.seed, b"verity-salt")
    }

    fn verity(&self) -> Guid {
        guid(self.seed, b"verity-uuid")
    }

    fn file_system(&self) -> Guid {
        let data = guid(self.seed, self.kind(Role::Data).guid().as_bytes());
        guid(data, b"file-system-uuid")
    }

    fn kind(&self, role: Role) -> PartitionType {
        PartitionType::new(self.architecture, Designator::Root, role)
    }

    /// The table of three partitions of these sizes, one behind the other.
    fn table(&self, root_hash: &RootHash, sizes: [u64; 3]) -> Table {
        let (data, verity) = root_hash.partition_guids();
        let signature = guid(self.seed, self.kind(Role::Signature).guid().as_bytes());
        let mut offset = gpt::FRONT_SIZE;
        let mut partitions = Vec::new();
        for ((role, guid), size) in Role::ALL
            .into_iter()
            .zip([data, verity, signature])
            .zip(sizes)
        {
            let kind = self.kind(role);
            partitions.push(Partition {
                number: partitions.len() + 1,
                type_guid: kind.guid(),
                guid,
                offset,
                size,
                attributes: gpt::READ_ONLY,
                label: kind.to_string(),
            });
            offset += size;
        }
        Table {
            sector_size: gpt::SECTOR_SIZE,
            disk: guid(self.seed, b"disk-uuid"),
            partitions,
        }
    }
}

fn keyed(key: Guid, message: &[u8]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// A UUID that looks random (version 4) and is not.
pub(crate) fn guid(key: Guid, message: &[u8]) -> Guid {
    let mut bytes = first_16(keyed(key, message));
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    Guid::from_bytes(bytes)
}

fn first_16(hash: [u8; 32]) -> [u8; 16] {
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(hash) {
        *to = from;
    }
    first
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Image, KeyPair, PrivateKey, Requirements, vector};

    fn signer() -> KeyPair {
        let key = PrivateKey::from_pem(&vector::key("rsa2048.key"), None).unwrap();
        let certificate = Certificate::from_pem(&vector::key("rsa2048.crt")).unwrap();
        KeyPair::new(key, certificate).unwrap()
    }

    fn plan(files: &[(&str, &str)]) -> Plan {
        let mut tree = Tree::new();
        for (path, text) in files {
            tree.insert(path, Entry::file(*text)).unwrap();
        }
        Plan::new("demo".parse().unwrap(), Architecture::X86_64, tree)
    }

    fn build(plan: &Plan) -> (Report, Vec<u8>) {
        let mut out = Cursor::new(Vec::new());
        let report = plan.build(&signer(), &mut out).unwrap();
        (report, out.into_inner())
    }

    #[test]
    fn one_block_makes_an_image_of_49664_bytes_that_verifies() {
        let (report, image) = build(&plan(&[("usr/lib/demo.conf", "hello\n")]));
        assert_eq!((report.size, image.len()), (49_664, 49_664));
        let sizes: Vec<u64> = report
            .partitions
            .iter()
            .map(|partition| partition.size)
            .collect();
        assert_eq!(sizes, [4096, 4096, 4096]);
        let trusted = Certificates::new([signer().certificate().clone()]);
        let mut requirements = Requirements::new();
        requirements.file_name = Some("demo.sysext.raw".into());
        requirements.architecture = Some(Architecture::X86_64);
        let image = Image::open(Cursor::new(image)).unwrap();
        assert_eq!(
            image.verify(&trusted, &requirements).unwrap(),
            report.root_hash
        );
    }

    #[test]
    fn the_same_plan_makes_the_same_bytes() {
        let plan = plan(&[("usr/lib/demo.conf", "hello\n")]);
        assert!(build(&plan).1 == build(&plan).1);
        let mut other = plan.clone();
        other.seed = Some(Guid::from_bytes([9; 16]));
        assert!(build(&plan).1 != build(&other).1);
    }

    #[test]
    fn a_dry_run_knows_the_size() {
        let plan = plan(&[("usr/lib/demo.conf", "hello\n")]);
        let report = plan.build(&signer(), &mut std::io::empty()).unwrap();
        assert_eq!(
            (report.size, report.root_hash),
            (49_664, build(&plan).0.root_hash)
        );
    }

    #[test]
    fn identifiers_follow_from_the_seed_as_in_repart() {
        // Read out of an image that systemd-repart 262 made with `--make-ddi=sysext` and this seed.
        let seed = Guid::from_bytes([1; 16]);
        let ids = Identifiers {
            seed,
            architecture: Architecture::X86_64,
        };
        let signature = guid(seed, ids.kind(Role::Signature).guid().as_bytes());
        let disk = guid(seed, b"disk-uuid");
        assert_eq!(
            [ids.verity(), ids.file_system(), disk, signature].map(|guid| guid.to_string()),
            [
                "7b3ac30f-3fcb-4b92-a9b2-376707367535",
                "7e659a5d-fe57-4bc8-9bb3-0a786ec0e298",
                "12c3f000-5c12-441a-97d6-1c52e8640bb0",
                "1287e54e-e794-4666-ba5d-497955be8d95"
            ]
        );
        assert_eq!(
            hex::encode(ids.salt()),
            "0ffc0d58686656216627309c15f8bda77c1bcbc943ed542ba6587b38148c0e54"
        );
    }

    #[test]
    fn the_release_file_is_written_from_what_is_known() {
        let mut plan = plan(&[("usr/x", "")]);
        let text = |plan: &Plan| plan.prepare().unwrap().1.to_string();
        assert_eq!(
            text(&plan),
            "ID=_any\nSYSEXT_SCOPE=initrd\nARCHITECTURE=x86-64\n"
        );
        plan.base = Some(Release::parse(b"ID=debian\nVERSION_ID=12").unwrap());
        plan.scopes = vec![Scope::Initrd, Scope::System];
        plan.release.set("EXTENSION_RELOAD_MANAGER", "1").unwrap();
        assert_eq!(
            text(&plan),
            "ID=debian\nVERSION_ID=12\nSYSEXT_SCOPE=\"initrd system\"\nARCHITECTURE=x86-64\n\
             EXTENSION_RELOAD_MANAGER=1\n"
        );
    }

    #[test]
    fn a_release_file_in_the_tree_is_kept_and_checked() {
        let path = "usr/lib/extension-release.d/extension-release.demo";
        let mut plan = plan(&[(path, "ID=debian\nSYSEXT_SCOPE=initrd")]);
        assert_eq!(
            plan.prepare().unwrap().1.to_string(),
            "ID=debian\nSYSEXT_SCOPE=initrd\n"
        );
        plan.base = Some(Release::parse(b"ID=fedora").unwrap());
        plan.scopes = vec![Scope::System];
        plan.release.set("ARCHITECTURE", "x86-64").unwrap();
        let Error::Refused { findings } = plan.check().unwrap_err() else {
            panic!("another error")
        };
        assert_eq!(
            findings
                .iter()
                .map(|finding| finding.what.as_str())
                .collect::<Vec<_>>(),
            [
                "ID=debian, the base has ID=fedora",
                "SYSEXT_SCOPE=initrd, without system",
                "ARCHITECTURE=, but ARCHITECTURE=x86-64 was asked for"
            ]
        );
    }

    #[test]
    fn nothing_is_written_for_a_bad_plan() {
        let mut out = Cursor::new(Vec::new());
        let error = plan(&[("srv/x", "")])
            .build(&signer(), &mut out)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "srv: is not merged from a sysext, only usr and opt"
        );
        assert!(out.into_inner().is_empty());
    }
}
