//! `ukikit tpm answer`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use ukikit_creds::Challenge;
use ukikit_creds::tpm::Tpm;

use crate::command::cred::TpmDevice;
use crate::file;
use crate::output::Output;
use crate::system;

/// In bytes; a challenge is a few kilobytes long.
const LONGEST: usize = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct Respond {
    /// What `ukikit tpm challenge` wrote for this host
    challenge: PathBuf,
    /// Where the answer goes, or - for standard output
    #[arg(default_value = "-")]
    answer: PathBuf,
    #[command(flatten)]
    tpm: TpmDevice,
}

impl Respond {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let challenge = Challenge::from_json(&file::read(&self.challenge, LONGEST)?)
            .with_context(|| format!("cannot use {}", file::shown_input(&self.challenge)))?;
        let (mut transport, mut rng) = (self.tpm.open()?, system::random());
        let answer = Tpm::new(&mut *transport, &mut rng).answer(&challenge)?;
        file::write(&self.answer, answer.to_json().as_bytes(), out)
    }
}
