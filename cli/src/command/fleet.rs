//! `ukikit fleet`: its verbs, and the options that say which fleet and where its results are.

mod encrypt;
mod find;
mod forget;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use ukikit::fleet::{FingerprintKey, Fleet, Store, Values};

use crate::file;
use crate::output::{Output, with_hint};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Seal the credentials of many hosts, each into a tree for its EFI system partition
    Encrypt(encrypt::Encrypt),
    /// Compare what stands on a host with what was sealed for it
    Status(status::Status),
    /// Find the hosts that still carry an older value of a credential
    Find(find::Find),
    /// Take hosts out of the output directory
    Forget(forget::Forget),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Encrypt(verb) => verb.run(out),
            Self::Status(verb) => verb.run(out),
            Self::Find(verb) => verb.run(out),
            Self::Forget(verb) => verb.run(out),
        }
    }
}

/// `--output=`
#[derive(Debug, Args)]
struct Directory {
    /// Where the trees of the hosts and their records are
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl Directory {
    fn open(&self) -> Store {
        Store::at(&self.output)
    }
}

/// The fleet file, and its secrets.
#[derive(Debug, Args)]
struct Secrets {
    /// Which credentials, bound to what, for which hosts
    #[arg(value_name = "FLEET.toml")]
    fleet: PathBuf,
    /// JSON with the values of credentials that say `stdin`: {"NAME" or "HOST/NAME": string or {"base64": string}};
    /// - for standard input
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
}

/// Enough for a fleet's worth of secrets.
const SECRETS_MAX: usize = 256 << 20;

impl Secrets {
    fn open(&self) -> Result<(Fleet, Values)> {
        let fleet = Fleet::read(&self.fleet)?;
        let secrets = self
            .secrets
            .as_deref()
            .map(|path| file::read(path, SECRETS_MAX))
            .transpose()?;
        let values = Values::new(
            fleet.directory(),
            secrets.as_ref().map(|json| json.as_slice()),
        )?;
        Ok((fleet, values))
    }
}

/// `--state=`
#[derive(Debug, Args)]
struct State {
    /// The key of the fingerprints that tell changed values; shards share one [default: .ukikit-fleet/key in the output]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

impl State {
    fn path(&self, store: &Store) -> PathBuf {
        self.state.clone().unwrap_or_else(|| store.key_path())
    }

    /// The key that an earlier run made.
    fn key(&self, store: &Store) -> Result<FingerprintKey> {
        let path = self.path(store);
        let key = FingerprintKey::read(&path)?
            .with_context(|| format!("there is no key of fingerprints `{}`", path.display()));
        key.map_err(|error| {
            with_hint(
                error,
                "ukikit fleet encrypt makes it; --state= names another place",
            )
        })
    }
}
