//! `ukikit esp place`

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use ukikit::check::{Circumstances, Finding, Findings, Level, check_placing};
use ukikit_creds::Timestamp;
use ukikit_esp::{Companion, Esp, Placing, Target, Uki, UkiPath};

use super::pcrlock::Pcrlock;
use super::verify::{Encoding, Expected, read_certificates};
use super::{Changing, Whose, hint_at_ukis};
use crate::command::cred::read_identity;
use crate::output::{Output, with_hint};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Files to place, each under its own name: *.cred, *.sysext.raw, *.raw, *.confext.raw, *.addon.efi
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    whose: Whose,
    /// Certificate, in PEM, that an image must be signed by [default: those in the initrd of the UKI]
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// The host, by its identity file: a carrier is placed for its own host alone
    #[arg(long = "for", value_name = "IDENTITY")]
    identity: Option<PathBuf>,
    /// How the credentials are written; initrds of systemd up to 261 want some of them binary
    #[arg(long, value_enum, value_name = "ENCODING", default_value_t)]
    encoding: Encoding,
    /// The files for all are needed by this UKI: `ukikit esp gc` removes them when the last such UKI is gone
    #[arg(long, value_name = "PATH", requires = "global")]
    needed_by: Vec<UkiPath>,
    /// Nothing else: what lies beside the UKI and is not among the files goes in the same change
    #[arg(long, conflicts_with = "global")]
    only: bool,
    /// Place also what was not verified or does not pass `ukikit check`, with a warning, and over files that something else has put there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pcrlock: Pcrlock,
    #[command(flatten)]
    changing: Changing,
}

impl Place {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let target = self.whose.target();
        let host = self.identity.as_deref().map(read_identity).transpose()?;
        let now = Timestamp::from_micros(system::now_micros());
        let esps = self.changing.open(Some(&target), out)?;
        let files = self
            .files
            .iter()
            .map(|path| Companion::read(path))
            .collect::<Result<Vec<_>, _>>()?;
        let mut how = Placing::new();
        how.force = self.force;
        how.only = self.only;
        how.needed_by = self.needed_by;
        let mut circumstances = Circumstances::default();
        circumstances.now = now.as_micros();
        circumstances.identity.clone_from(&host);
        circumstances.trusted = read_certificates(&self.certificate)?;
        let mut planned = Vec::new();
        for esp in esps {
            let uki = read_uki(&esp, &target)?;
            let mut expected = Expected::new(
                self.encoding,
                &self.certificate,
                uki.as_deref(),
                host.as_ref(),
                now,
            );
            let mut warned = Vec::new();
            for file in &files {
                match expected.verify(file) {
                    Err(reason) if self.force => {
                        out.warning(format_args!("{reason:#}"));
                        warned.push(file.path(&target));
                    }
                    verdict => verdict?,
                }
            }
            let mut findings = check_placing(&esp, &target, &files, &how, &circumstances)?;
            findings.0.retain(|found| !warned.contains(&found.file));
            refuse_errors(&findings, self.force, out)?;
            self.pcrlock.warn(&esp, &target, &files, out)?;
            let changes = esp
                .place_with(&target, files.clone(), &how)
                .map_err(|error| hint_at_ukis(error, &esp))?;
            planned.push((esp, changes));
        }
        self.changing.apply(&planned, out)
    }
}

/// What `ukikit check` would call an error is not placed: one bad image keeps systemd from merging any.
fn refuse_errors(findings: &Findings, force: bool, out: &mut Output) -> Result<()> {
    let errors = || {
        let found = findings.0.iter();
        found.filter(|found| found.level == Level::Error)
    };
    let said = |found: &Finding| format!("{}: {} [{}]", found.file, found.reason, found.rule);
    if force {
        errors().for_each(|found| out.warning(said(found)));
        return Ok(());
    }
    let Some(worst) = errors().next() else {
        return Ok(());
    };
    (errors().skip(1)).for_each(|found| out.error(&anyhow!(said(found))));
    let hint = format!("{}; --force places it all the same", worst.remedy);
    Err(with_hint(anyhow!(said(worst)), hint))
}

/// The bytes of the UKI the companions are for, if they are for one.
fn read_uki(esp: &Esp, target: &Target) -> Result<Option<Vec<u8>>> {
    let Target::Uki(path) = target else {
        return Ok(None);
    };
    let shown = esp.uki(path).map_err(|error| hint_at_ukis(error, esp))?;
    let file = esp.read_uki(path)?;
    Uki::parse(&file).with_context(|| format!("cannot use `{}`", shown.display()))?;
    Ok(Some(file))
}
