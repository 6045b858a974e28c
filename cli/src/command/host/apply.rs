//! `ukikit host apply`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;
use ukikit::check::{Findings, Level};
use ukikit::host;
use ukikit_esp::{Companion, Esp};

use super::plan::one_esp;
use super::{Host, sources};
use crate::command::cred::read_identity;
use crate::command::esp::verify::{Encoding, Expected};
use crate::command::esp::{Changing, with_remedy};
use crate::output::{Output, with_hint};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    host: Host,
    /// Certificate, in PEM, that an image must be signed by [default: those in the initrd of the UKI]
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// Place it though `ukikit check` finds errors, and over files that something else has put there
    #[arg(long)]
    force: bool,
    /// Try it in so many boots: if none reaches its end, what was there before is started again. Once one did, the same without
    /// --tries= makes it stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    tries: Option<u32>,
    #[command(flatten)]
    changing: Changing,
}

impl Apply {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let esps = self.changing.open(Some(&self.host.target()), out)?;
        let [esp] = &*esps else { return one_esp() };
        let plan = self.host.plan(esp, self.tries.is_some())?;
        self.verify_images(esp)?;
        let state = self.host.state();
        let (mut rng, known, values) = (system::random(), state.record()?, self.host.values()?);
        let key = state.key(&mut rng)?;
        let applied = host::Apply {
            plan: &plan,
            esp,
            sources: &sources(&values),
            key: &key,
            host: state.name(),
            known: &known,
            force: self.force,
            tries: self.tries,
        };
        let applied = applied.run(&mut rng);
        let applied = applied.map_err(|error| self.explain(error, &plan))?;
        refuse_errors(&applied.findings, self.force, out)?;
        if !self.changing.dry_run {
            state.keep(&key)?;
        }
        self.changing
            .apply(&[(esp.clone(), applied.changes)], out)?;
        if !self.changing.dry_run {
            state.put(applied.record)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What is not verified is not placed.
    fn verify_images(&self, esp: &Esp) -> Result<()> {
        let uki = esp.read_uki(&self.host.uki)?;
        let identity = self
            .host
            .identity
            .as_deref()
            .map(read_identity)
            .transpose()?;
        let now = ukikit_creds::Timestamp::from_micros(system::now_micros());
        let mut expected = Expected::new(
            Encoding::Base64,
            &self.certificate,
            Some(&uki),
            identity.as_ref(),
            now,
        );
        for path in &self.host.extension {
            expected.verify(&Companion::read(path)?)?;
        }
        Ok(())
    }

    fn explain(&self, error: anyhow::Error, plan: &host::Plan) -> anyhow::Error {
        match error.downcast::<ukikit_esp::Error>() {
            Ok(error) => with_remedy(error),
            Err(error) => self.host.hint_at_extensions(error, plan),
        }
    }
}

/// A boot that is known to go wrong is not prepared, unless by force, which is told.
pub(crate) fn refuse_errors(findings: &Findings, force: bool, out: &mut Output) -> Result<()> {
    let errors = findings
        .0
        .iter()
        .filter(|finding| finding.level == Level::Error);
    for finding in errors {
        let said = format!("{}: {} [{}]", finding.file, finding.reason, finding.rule);
        if !force {
            let hint = format!("{}; --force places it all the same", finding.remedy);
            return Err(with_hint(anyhow!(said), hint));
        }
        out.warning(said);
    }
    Ok(())
}
