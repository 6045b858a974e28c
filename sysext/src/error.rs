//! What can go wrong between a directory and a signed image.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::{Finding, escape};

/// Why a tree could not be read, or an image not be built, read or verified.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of the host could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The output refused bytes.
    #[error("cannot write the image")]
    Write {
        /// What the system said.
        source: io::Error,
    },
    /// A program that is asked to do a part of the work is not there.
    #[error("the program {program} is not installed")]
    NotInstalled {
        /// Its name.
        program: &'static str,
    },
    /// Such a program failed.
    #[error("{program}: {what}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it complained of.
        what: String,
    },
    /// One entry of a tree cannot be what it claims to be, or not in this place.
    #[error("`{path}`: {what}")]
    Entry {
        /// Path in the tree or of the file on the host, as [`escape`] shows it.
        path: String,
        /// The rule it breaks.
        what: Cow<'static, str>,
    },
    /// A line of a manifest or of file contexts breaks the rules of its format, or does not fit the tree.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: usize,
        /// The rule.
        what: Cow<'static, str>,
    },
    /// A file system inside an image is damaged or uses what its reader does not know.
    #[error("cannot read the {format} file system")]
    FileSystem {
        /// `EROFS` or `squashfs`.
        format: &'static str,
        /// The reader's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Bytes that break their format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A finished image could not be read.
    #[error("cannot read the image")]
    ReadImage {
        /// What the system said.
        source: io::Error,
    },
    /// A name, UUID, architecture or the like that cannot be one.
    #[error("{what}")]
    Value {
        /// The rule, with the text that breaks it.
        what: String,
    },
    /// An image, or what should become one, breaks the rules.
    #[error("{}", summary(findings))]
    Refused {
        /// The reasons, the first that was found first; at least one.
        findings: Vec<Finding>,
    },
    /// A key or a certificate that cannot serve.
    #[error(transparent)]
    Signing(#[from] ukikit_signing::Error),
}

/// The first reason, and how many more there are.
fn summary(findings: &[Finding]) -> String {
    match findings {
        [] => "refused".into(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

impl Error {
    /// An [`Error::Write`].
    pub(crate) fn write(source: io::Error) -> Self {
        Self::Write { source }
    }

    /// An [`Error::Value`].
    pub(crate) fn value(what: impl Into<String>) -> Self {
        Self::Value { what: what.into() }
    }

    /// An [`Error::Line`].
    pub(crate) fn line(line: usize, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Line {
            line,
            what: what.into(),
        }
    }

    /// An [`Error::Entry`] for a path of a tree, which may hold any bytes.
    pub(crate) fn entry(path: &[u8], what: impl Into<Cow<'static, str>>) -> Self {
        let path = escape(path);
        Self::Entry {
            path,
            what: what.into(),
        }
    }
}

/// A place in a file and the rule its bytes break there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at byte {offset}: {what}")]
pub struct FormatError {
    /// Bytes from the start of the file or partition that was read.
    pub offset: u64,
    /// The rule, for instance `IV size is not 12`.
    pub what: Cow<'static, str>,
}

impl FormatError {
    /// The rule `what` is broken at byte `offset`.
    pub fn new(offset: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            offset,
            what: what.into(),
        }
    }
}
