//! `ukikit fleet encrypt`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ukikit::fleet::{FingerprintKey, Run, Sealer, Shard, Store};
use ukikit::moment;
use ukikit_creds::Timestamp;

use super::{Directory, Secrets, State};
use crate::output::{Json, Output};
use crate::progress::Progress;
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Encrypt {
    #[command(flatten)]
    secrets: Secrets,
    #[command(flatten)]
    directory: Directory,
    #[command(flatten)]
    state: State,
    /// Do only the I-th of N parts of the hosts; results of all parts merge by copying
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Do only these hosts
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    only: Vec<String>,
    /// Go on with the other hosts when one fails
    #[arg(long)]
    keep_going: bool,
    /// Show what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Encrypt {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let (fleet, values) = self.secrets.open()?;
        let store = self.directory.open();
        let now = Timestamp::from_micros(system::now_micros());
        let (uid, user) = system::user();
        let run = Run {
            fleet: &fleet,
            values: &values,
            store: &store,
            key: &self.key(&store)?,
            sealer: &Sealer::new(moment::rfc3339(now), uid, user),
            now,
            shard: self.shard,
            only: &self.only,
            keep_going: self.keep_going,
            dry_run: self.dry_run,
        };
        let progress = Progress::hosts(run.host_count()?);
        let summary = run.encrypt(&system::random(), &|| progress.add(1))?;
        drop(progress);
        for error in &summary.errors {
            out.error(error);
        }
        out.show(&summary, self.json)?;
        Ok(if summary.errors.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The key there is, or a new one; a dry run keeps none.
    fn key(&self, store: &Store) -> Result<FingerprintKey> {
        let (path, mut rng) = (self.state.path(store), system::random());
        if self.dry_run {
            return Ok(
                FingerprintKey::read(&path)?.unwrap_or_else(|| FingerprintKey::random(&mut rng))
            );
        }
        store.create()?;
        FingerprintKey::read_or_create(&path, &mut rng)
    }
}
