//! `ukikit ext`: its verbs, and the options they share.

mod attach;
mod beside;
mod build;
mod content;
mod diff;
mod digest;
mod files;
mod inspect;
mod list;
pub(super) mod passphrase;
pub(crate) mod signing;
mod source;
mod started;
#[cfg(feature = "pkcs11")]
mod token_key;
mod verify;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use ukikit::Base;
use ukikit_sysext::Certificate;

use crate::file;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a signed extension image from a directory
    Build(Box<build::Build>),
    /// Make an image with room for a signature, and tell what is to be signed
    Digest(Box<digest::Digest>),
    /// Put a signature that was made elsewhere into an image
    Attach(attach::Attach),
    /// Check that a boot would take an image
    Verify(verify::Verify),
    /// Show what an image says about itself
    Inspect(inspect::Inspect),
    /// List the files in an image
    List(list::List),
    /// Show how the files of two images or directories differ; status 1 if they do
    Diff(diff::Diff),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Build(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::Digest(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::Attach(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::Verify(verb) => verb.run(out),
            Self::Inspect(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::List(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::Diff(verb) => verb.run(out),
        }
    }
}

/// The version of the JSON that the verbs print; it changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;

/// Keys and certificates are a few kilobytes.
pub(crate) const PEM_MAX: usize = 1 << 20;
/// UKIs with large initrds stay well below.
const BASE_MAX: usize = 1 << 30;

pub(crate) fn read_certificate(path: &Path) -> Result<Certificate> {
    let pem = file::read(path, PEM_MAX)?;
    Certificate::from_pem(&pem).with_context(|| format!("cannot use `{}`", path.display()))
}

/// A UKI, an initrd or an os-release file.
fn read_base(path: &Path) -> Result<Base> {
    let bytes = file::read(path, BASE_MAX)?;
    Base::of_file(&bytes).with_context(|| format!("cannot use `{}` as the base", path.display()))
}

/// The name of the file, which tells the extension's.
fn file_name(path: &Path) -> Option<String> {
    path.file_name().map(OsStr::to_string_lossy).map(Into::into)
}
