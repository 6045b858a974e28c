//! Everything that a boot would look at, and what it would not but should.

use std::io::{self, Read, Seek};

use super::Image;
use super::data::Data;
use super::partitions::{self, Partitions};
use crate::content::{self, Rules, with_cause};
use crate::finding::Findings;
use crate::signature::{self, SignedRootHash};
use crate::{
    Architecture, Certificate, Certificates, Check, Error, Finding, Kind, Release, RootHash, Scope,
    Tree, escape, verity,
};

/// What an image has to fit. What is `None` is not checked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Requirements {
    /// Where it is to be merged; the initrd unless changed.
    pub scope: Option<Scope>,
    /// The `os-release` of what it extends.
    pub base: Option<Release>,
    /// The name the image has or will have: it decides which release file counts.
    pub file_name: Option<String>,
    /// The machine it is for.
    pub architecture: Option<Architecture>,
}

impl Requirements {
    /// To be merged in an initrd; everything else is not checked.
    pub fn new() -> Self {
        Self {
            scope: Some(Scope::Initrd),
            base: None,
            file_name: None,
            architecture: None,
        }
    }
}

impl Default for Requirements {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Read + Seek + Send + 'static> Image<R> {
    /// Checks the image from the partition table to the content, reading all of it, and returns the root
    /// hash that one of the trusted certificates has signed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with every reason, in the order of [`Check`] as far as possible, and
    /// [`Error::ReadImage`].
    pub fn verify(
        &self,
        trusted: &Certificates,
        requirements: &Requirements,
    ) -> Result<RootHash, Error> {
        let mut findings = Findings::from(self.findings.clone());
        match &self.table {
            Some(table) => partitions::check(table, requirements.architecture, &mut findings),
            None => findings.add(Check::PartitionTable, "image", BARE),
        }
        let partitions = self.partitions();
        let signed = match &partitions.signature {
            Some(signature) => findings.keep(self.signed_root_hash(signature))?,
            None => None,
        };
        if let Some(signed) = &signed {
            let checked = self.check_hash_tree(&partitions, &signed.root_hash);
            findings.keep(checked)?;
            check_guids(&partitions, &signed.root_hash, &mut findings);
            check_signature(signed, trusted, &mut findings)?;
        }
        if let Some(data) = self.data(&partitions)
            && let Some((_, tree)) = findings.keep(data.files())?
        {
            check_files(&data, &tree, requirements, &mut findings)?;
        }
        // Without a signed root hash there is a finding that says why.
        let root_hash = signed.map(|signed| signed.root_hash);
        findings.verdict(root_hash)?.ok_or_else(|| {
            Finding::new(
                Check::SignaturePartition,
                "image",
                "has no signed root hash",
            )
            .into()
        })
    }

    pub(super) fn check_hash_tree(
        &self,
        partitions: &Partitions,
        root_hash: &RootHash,
    ) -> Result<(), Error> {
        let (Some(data), Some(hashes)) = (&partitions.data, &partitions.verity) else {
            return Ok(());
        };
        let size = data.partition.size;
        let (mut data, mut hashes) = (self.window(data), self.window(hashes));
        let superblock = verity::superblock(&mut hashes)?;
        verity::check(&mut data, size, &mut hashes, &superblock, root_hash)
    }
}

/// What is said of a file system without partitions.
const BARE: &str =
    "is a file system without partition table, hash tree and signature, which no initrd merges";

fn check_files<R: Read + Seek + Send + 'static>(
    data: &Data<R>,
    tree: &Tree,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Error> {
    // Sizes in an image that nobody signed are not worth reading up to.
    if findings.is_empty() {
        findings.keep(read_all(&data.place, tree))?;
    }
    let rules = Rules {
        file_name: requirements.file_name.as_deref(),
        base: requirements.base.as_ref(),
        scopes: requirements.scope.as_slice(),
        architecture: data.architecture.or(requirements.architecture),
    };
    content::check(tree, data.designator, &rules, findings)
}

/// Reads every file to its end.
fn read_all(place: &str, tree: &Tree) -> Result<(), Error> {
    for (path, entry) in tree.iter() {
        if let Kind::File(content) = &entry.kind {
            let path = escape(path);
            let refused = |error: &dyn std::error::Error| {
                let what = format!("`{path}`: {}", with_cause(error));
                Error::from(Finding::new(Check::FileSystem, place, what))
            };
            let mut reader = content.open().map_err(|error| refused(&error))?;
            io::copy(&mut reader, &mut io::sink()).map_err(|error| refused(&error))?;
        }
    }
    Ok(())
}

/// systemd does not insist on these when the signature is inside, but identifies images by them.
fn check_guids(partitions: &Partitions, root_hash: &RootHash, findings: &mut Findings) {
    let (data, verity) = root_hash.partition_guids();
    for (found, expected, half) in [
        (&partitions.data, data, "first"),
        (&partitions.verity, verity, "last"),
    ] {
        let Some(found) = found
            .as_ref()
            .filter(|found| found.partition.guid != expected)
        else {
            continue;
        };
        let own = found.partition.guid;
        let what = format!("has UUID {own}, not {expected}, the {half} half of the root hash");
        findings.add(Check::PartitionUuids, found.place(), what);
    }
}

fn check_signature(
    signed: &SignedRootHash,
    trusted: &Certificates,
    findings: &mut Findings,
) -> Result<(), Error> {
    let checked = signature::check(&signed.signature, &signed.root_hash, trusted);
    let signer = findings.keep(checked)?;
    let Some(fingerprint) = &signed.fingerprint else {
        return Ok(());
    };
    let expected: Vec<&Certificate> = match signer {
        Some(signer) => vec![signer],
        None => trusted.iter().collect(),
    };
    if !expected
        .iter()
        .any(|certificate| certificate.fingerprint() == *fingerprint)
    {
        let what = format!("certificateFingerprint {fingerprint} is of another certificate");
        findings.add(Check::Fingerprint, "signature partition", what);
    }
    Ok(())
}
