//! What speaks against an image: one [`Finding`] for each reason.

use std::fmt;

use serde::Serialize;

use crate::Error;

/// What was looked at, in the order it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Check {
    /// Both copies of the partition table and the protective MBR.
    PartitionTable,
    /// Which partitions there are, and where.
    Partitions,
    /// The text in the signature partition.
    SignaturePartition,
    /// The root hash over the hash tree over every block of data.
    HashTree,
    /// That the partitions are named after the root hash.
    PartitionUuids,
    /// The signature over the root hash, as the kernel and as systemd check it.
    Signature,
    /// That the fingerprint beside the signature is that of the certificate.
    Fingerprint,
    /// That the file system can be read.
    FileSystem,
    /// What an extension may hold, its release file, and what it fits.
    Content,
    /// That a tree, built again, gives the image.
    Rebuild,
    /// That it changes nothing of the base or of another extension.
    Base,
    /// That all it needs is there, and that its units start and stop as they must.
    Needs,
}

/// One reason why an image, or what should become one, is refused. Shown in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Where: a partition, a copy of the table, a path.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl Finding {
    /// `what` is wrong at `place`.
    pub fn new(check: Check, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            check,
            place: place.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Findings while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    pub(crate) fn add(&mut self, check: Check, place: impl Into<String>, what: impl Into<String>) {
        self.0.push(Finding::new(check, place, what));
    }

    /// The value, or `None` when it was refused; the reasons are kept. Other errors go through.
    pub(crate) fn keep<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Refused { findings }) => {
                self.0.extend(findings);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// `value` if nothing speaks against it.
    pub(crate) fn verdict<T>(self, value: T) -> Result<T, Error> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(self.refused())
        }
    }

    /// The error that these findings are.
    pub(crate) fn refused(self) -> Error {
        Error::Refused { findings: self.0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

impl From<Vec<Finding>> for Findings {
    fn from(findings: Vec<Finding>) -> Self {
        Self(findings)
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Refused {
            findings: vec![finding],
        }
    }
}
