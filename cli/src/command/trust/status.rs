//! `ukikit trust status`

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit::trust::{Configured, KernelTrust, Trusted, checked_in_user_space, trusted};
use ukikit_esp::{AddonVerdict, Boot, Esp, Start, Uki, UkiPath};
use ukikit_signing::{Certificate, Certificates};
use ukikit_sysext::{Tree, initrd};

use super::{SCHEMA, read_initrd};
use crate::command::addon::usable;
use crate::command::ext::read_certificate;
use crate::file;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Root directory of the EFI system partition
    #[arg(long, value_name = "DIR")]
    esp: PathBuf,
    /// The UKI at this path on the ESP
    #[arg(long, value_name = "PATH")]
    uki: UkiPath,
    /// As it is with Secure Boot on: addons have to be signed
    #[arg(long)]
    secure_boot: bool,
    /// The kernel's configuration, such as /boot/config-VERSION [default: that in the initrd, if there is one]
    #[arg(long, value_name = "FILE")]
    kernel_config: Option<PathBuf>,
    /// A certificate in the firmware's db or shim's MOK list, PEM: with --secure-boot, addons must be signed by one of them
    #[arg(long, value_name = "CERT")]
    db: Vec<PathBuf>,
    /// Tell whether extensions signed by this certificate would be merged, PEM
    #[arg(long, value_name = "CERT")]
    certificate: Vec<PathBuf>,
    /// How to print it
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

/// Text files.
const CONFIGURATION_MAX: usize = 4 << 20;

impl Status {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let read = |paths: &[PathBuf]| -> Result<Vec<Certificate>> {
            paths.iter().map(|path| read_certificate(path)).collect()
        };
        let (db, asked) = (read(&self.db)?, read(&self.certificate)?);
        let esp = Esp::at(&self.esp)?;
        let path = esp.uki(&self.uki)?;
        let bytes = esp.read_uki(&self.uki)?;
        let uki = usable(&path, Uki::parse(&bytes))?;
        let mut start = Start::default();
        start.secure_boot = self.secure_boot;
        start.db = Certificates::new(db.clone());
        let boot = Boot::new(Some(&uki), &esp.boot_files(&self.uki, &[])?, &start)?;
        let own = read_initrd(&uki)?;
        let (addons, layers) = addons(&boot);
        let kernel = self.kernel(&own)?;
        let command_line = boot.command_line.as_deref().unwrap_or_default();
        let mut report = Report {
            schema: SCHEMA,
            uki: self.uki.as_str(),
            secure_boot: self.secure_boot,
            trusted: trusted(&own, &layers),
            user_space: checked_in_user_space(command_line),
            addons,
            kernel,
            certificates: Vec::new(),
        };
        report.certificates = asked.iter().map(|one| report.covered(one, &db)).collect();
        out.show(&report, self.json)
    }

    fn kernel(&self, initrd: &Tree) -> Result<KernelTrust> {
        let Some(path) = &self.kernel_config else {
            return Ok(KernelTrust::of_initrd(initrd));
        };
        let text = file::read(path, CONFIGURATION_MAX)?;
        let text = str::from_utf8(&text);
        let text = text.with_context(|| format!("`{}` is not UTF-8", path.display()))?;
        Ok(KernelTrust::of_configuration(
            &path.display().to_string(),
            text,
        ))
    }
}

/// All addons, and the initrds of those the stub takes.
fn addons(boot: &Boot<'_>) -> (Vec<AddonRow>, Vec<(String, Tree)>) {
    let mut layers = Vec::new();
    let rows = boot.addons.iter().map(|addon| {
        let mut row = AddonRow {
            path: addon.path.clone(),
            taken: addon.verdict == AddonVerdict::Taken,
            what: addon.verdict.to_string(),
        };
        match addon.initrd.as_deref().map(initrd::read) {
            Some(Ok(tree)) if row.taken => layers.push((addon.path.clone(), tree)),
            Some(Err(error)) => row.what = format!("its initrd: {error}"),
            _ => {}
        }
        row
    });
    (rows.collect(), layers)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema: u32,
    uki: &'a str,
    secure_boot: bool,
    /// By user space, from verity.d.
    trusted: Vec<Trusted>,
    /// Whether systemd checks signatures at all when the kernel does not accept them.
    user_space: bool,
    addons: Vec<AddonRow>,
    kernel: KernelTrust,
    certificates: Vec<Covered>,
}

#[derive(Debug, Serialize)]
struct AddonRow {
    path: String,
    taken: bool,
    what: String,
}

/// Whether the extensions of one signer would be merged.
#[derive(Debug, Serialize)]
struct Covered {
    subject: String,
    fingerprint: String,
    covered: Configured,
    why: String,
}

impl Report<'_> {
    fn covered(&self, certificate: &Certificate, db: &[Certificate]) -> Covered {
        let fingerprint = certificate.fingerprint();
        let own = self
            .trusted
            .iter()
            .find(|one| one.fingerprint == fingerprint);
        let in_db = db.iter().any(|one| one.fingerprint() == fingerprint);
        let (covered, why) = match (own, in_db, self.kernel.platform) {
            (Some(file), ..) if self.user_space => {
                let of = file.addon.as_deref().unwrap_or("the UKI");
                (Configured::Yes, format!("by {} of {of}", file.path))
            }
            (_, true, Configured::Yes) => (Configured::Yes, "by the kernel, through db".to_owned()),
            (_, true, Configured::Unknown) => {
                let why = "it is in db, but nothing tells whether the kernel takes those keys";
                (Configured::Unknown, why.to_owned())
            }
            (Some(_), ..) => {
                let why = "verity.d has it, but systemd.allow_userspace_verity= is off";
                (Configured::No, why.to_owned())
            }
            (None, true, _) => {
                let why = "it is in db, but the kernel does not take those keys for dm-verity";
                (Configured::No, why.to_owned())
            }
            (None, false, _) => (
                Configured::No,
                "neither verity.d nor a given db has it".to_owned(),
            ),
        };
        Covered {
            subject: certificate.subject(),
            fingerprint,
            covered,
            why,
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.secure_boot { "on" } else { "off" };
        writeln!(f, "UKI          {}, Secure Boot {mode}", self.uki)?;
        for one in &self.trusted {
            let of = one.addon.as_deref().unwrap_or("the UKI");
            writeln!(f, "trusted      {} ({})", one.subject, one.fingerprint)?;
            writeln!(f, "             {} of {of}", one.path)?;
        }
        if self.trusted.is_empty() {
            writeln!(f, "trusted      nobody by verity.d")?;
        }
        if !self.user_space {
            writeln!(
                f,
                "user space   off by systemd.allow_userspace_verity=, so verity.d has no effect"
            )?;
        }
        for addon in &self.addons {
            writeln!(f, "addon        {}: {}", addon.path, addon.what)?;
        }
        writeln!(f, "kernel       {}", self.kernel)?;
        for one in &self.certificates {
            let covered = match one.covered {
                Configured::Yes => "merged",
                Configured::No => "not merged",
                _ => "not known",
            };
            writeln!(f, "certificate  {}: {covered}, {}", one.subject, one.why)?;
        }
        Ok(())
    }
}
