//! `ukikit host plan`

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;
use ukikit::host::Report;

use super::{Host, sources};
use crate::command::esp::Root;
use crate::output::{Json, Output};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    host: Host,
    #[command(flatten)]
    root: Root,
    /// Print the plan as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Plan {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let esps = self.root.open(Some(&self.host.target()))?;
        let [esp] = &*esps else { return one_esp() };
        let plan = self.host.plan(esp, false)?;
        let known = self.host.state().record()?;
        let values = self.host.values()?;
        let findings = plan.findings(&sources(&values), &known, &mut system::random())?;
        let report = Report::new(&plan, &known, findings);
        out.show(&report, self.json)?;
        Ok(if report.is_bad() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// The state of a host file is about one.
pub(super) fn one_esp() -> Result<ExitCode> {
    Err(anyhow!(
        "a host file is for one EFI system partition: give --esp= once"
    ))
}
