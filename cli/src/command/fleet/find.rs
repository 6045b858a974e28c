//! `ukikit fleet find`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ukikit::fleet::carriers;
use ukikit_creds::{Name, Timestamp};

use super::{Directory, Secrets, State};
use crate::output::{Json, Output};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Find {
    #[command(flatten)]
    secrets: Secrets,
    #[command(flatten)]
    directory: Directory,
    #[command(flatten)]
    state: State,
    /// The credential whose value changed
    #[arg(long, value_name = "NAME")]
    secret: Name,
    /// Print the hosts as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Find {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let (fleet, values) = self.secrets.open()?;
        let store = self.directory.open();
        let key = self.state.key(&store)?;
        let now = Timestamp::from_micros(system::now_micros());
        let found = carriers(&fleet, &values, &store, &key, &self.secret, now)?;
        out.show(&found, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}
