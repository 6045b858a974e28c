//! `ukikit trust add`

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use ukikit::trust::{ADDON, TrustAddon};
use ukikit_esp::{
    AddonImage, AddonTarget, Architecture, Changes, Companion, Esp, Kind, Sbat, Target, Uki,
    UkiPath, check_addon,
};
use ukikit_signing::Certificate;
use ukikit_sysext::{Tree, initrd};

use super::{SCHEMA, read_initrd};
use crate::command::addon::signing::SecureBoot;
use crate::command::addon::usable;
use crate::command::esp::locked;
use crate::command::ext::read_certificate;
use crate::output::{Json, Output, with_hint};

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Certificates whose extensions the initrd is to merge, PEM
    #[arg(value_name = "CERT", required_unless_present = "withdraw")]
    certificates: Vec<PathBuf>,
    /// Certificates that are no longer to be trusted, those in the initrd of the UKI too
    #[arg(long, value_name = "CERT")]
    withdraw: Vec<PathBuf>,
    /// Root directory of the EFI system partition
    #[arg(long, value_name = "DIR")]
    esp: PathBuf,
    /// For the UKI at this path on the ESP
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present = "global",
        conflicts_with = "global"
    )]
    uki: Option<UkiPath>,
    /// For all UKIs on the ESP
    #[arg(long)]
    global: bool,
    /// Generation of the component `uki-addon.extension-trust` [default: as before, one more to withdraw]
    #[arg(long, value_name = "N")]
    sbat_generation: Option<u32>,
    #[command(flatten)]
    secure_boot: SecureBoot,
    /// Write the addon to this file and leave the ESP as it is
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How to print the changes
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Add {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let read = |paths: &[PathBuf]| -> Result<Vec<Certificate>> {
            paths.iter().map(|path| read_certificate(path)).collect()
        };
        let (added, withdrawn) = (read(&self.certificates)?, read(&self.withdraw)?);
        let mut esp = Esp::at(&self.esp)?;
        if !self.dry_run {
            esp = locked(esp, out)?;
        }
        let target = self.uki.clone().map_or(Target::Global, Target::Uki);
        let ukis = Neighbours::read(&esp, &target)?;
        let before = Before::read(&esp, &target)?;
        let mut trust = before.trust.clone();
        for certificate in &withdrawn {
            trust.withdraw(certificate);
            ukis.initrds
                .iter()
                .for_each(|initrd| trust.hide(certificate, initrd));
        }
        added
            .into_iter()
            .for_each(|certificate| trust.add(certificate));

        let generation = before.generation + u32::from(!withdrawn.is_empty() && before.is_there);
        let generation = self.sbat_generation.unwrap_or(generation);
        let name = format!("{ADDON}.addon.efi");
        if trust.is_empty() {
            if self.output.is_some() {
                bail!("nothing is left to trust or to hide: there is no addon to write");
            }
            let changes = esp.remove(&target, &[name])?;
            return self.finish(&esp, Some(&changes), &trust, generation, out);
        }
        let bytes = self
            .secure_boot
            .sign(image(&trust, &ukis, generation)?, out)?;
        if let Some(path) = &self.output {
            if !self.dry_run {
                crate::command::addon::output::write(path, &bytes)?;
            }
            return self.finish(&esp, None, &trust, generation, out);
        }
        let companion = Companion::new(name.parse()?, bytes)?;
        let changes = esp.place(&target, vec![companion])?;
        self.finish(&esp, Some(&changes), &trust, generation, out)
    }

    fn finish(
        &self,
        esp: &Esp,
        changes: Option<&Changes>,
        trust: &TrustAddon,
        generation: u32,
        out: &mut Output,
    ) -> Result<()> {
        let applied = !self.dry_run;
        if let Some(changes) = changes.filter(|_| applied) {
            changes.apply(esp)?;
        }
        let subjects = trust.trusted.iter().map(|certificate| Subject {
            subject: certificate.subject(),
            fingerprint: certificate.fingerprint(),
        });
        let changed = Changed {
            schema: SCHEMA,
            applied,
            output: self.output.as_deref(),
            trusted: subjects.collect(),
            hidden: trust.hidden.iter().cloned().collect(),
            sbat_generation: generation,
            changes,
        };
        out.show(&changed, self.json)?;
        if !self.withdraw.is_empty() {
            out.note(
                "note: a signed addon that was placed before can be put back by whoever writes the ESP, \
                 until dbx or, with shim, SbatLevel revokes it",
            );
        }
        Ok(())
    }
}

/// The file of the addon, which every UKI it is for would use.
fn image(trust: &TrustAddon, ukis: &Neighbours, generation: u32) -> Result<Vec<u8>> {
    let architecture = ukis.architecture()?;
    let mut addon = AddonImage::new(architecture, Sbat::new(ADDON, generation)?);
    let archive = initrd::write(&trust.tree()?, initrd::Packing::None)?;
    addon.initrd = Some(archive);
    let bytes = addon.to_bytes()?;
    for (path, target) in &ukis.targets {
        let findings = check_addon(&bytes, target);
        if let Some(refusal) = findings.iter().find(|finding| finding.is_refusal()) {
            bail!("`{path}` would not use the addon: {refusal}");
        }
    }
    Ok(bytes)
}

/// The UKIs an addon is for.
struct Neighbours {
    targets: Vec<(UkiPath, AddonTarget)>,
    initrds: Vec<Tree>,
}

impl Neighbours {
    fn read(esp: &Esp, target: &Target) -> Result<Self> {
        let paths = match target {
            Target::Uki(path) => vec![path.clone()],
            _ => esp.ukis()?,
        };
        let mut neighbours = Self {
            targets: Vec::new(),
            initrds: Vec::new(),
        };
        for path in paths {
            let file = esp.uki(&path)?;
            let bytes = esp.read_uki(&path)?;
            let uki = usable(&file, Uki::parse(&bytes))?;
            neighbours.targets.push((path, AddonTarget::of(&uki)));
            neighbours.initrds.push(read_initrd(&uki)?);
        }
        Ok(neighbours)
    }

    fn architecture(&self) -> Result<Architecture> {
        let known = self
            .targets
            .iter()
            .find_map(|(_, target)| target.architecture);
        known.ok_or_else(|| {
            with_hint(
                anyhow!("there is no UKI in EFI/Linux that tells the architecture"),
                "place the UKI first, or name it by --uki=",
            )
        })
    }
}

/// The addon that is there.
struct Before {
    is_there: bool,
    trust: TrustAddon,
    generation: u32,
}

impl Before {
    fn read(esp: &Esp, target: &Target) -> Result<Self> {
        let path = target.directory(Kind::Addon);
        let path = esp.root().join(path).join(format!("{ADDON}.addon.efi"));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self {
                    is_there: false,
                    trust: TrustAddon::default(),
                    generation: 1,
                });
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        let addon = usable(&path, AddonImage::parse(&bytes))?;
        let tree = initrd::read(&addon.initrd.unwrap_or_default())
            .with_context(|| format!("cannot use `{}`", path.display()))?;
        let component = format!("uki-addon.{ADDON}");
        let entries = addon.sbat.entries();
        let own = entries.iter().find(|entry| entry.component == component);
        Ok(Self {
            is_there: true,
            trust: TrustAddon::of_tree(&tree),
            generation: own.map_or(1, |entry| entry.generation),
        })
    }
}

#[derive(Debug, Serialize)]
struct Subject {
    subject: String,
    fingerprint: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed<'a> {
    schema: u32,
    applied: bool,
    output: Option<&'a Path>,
    /// Whom the addon makes the initrd trust.
    trusted: Vec<Subject>,
    /// Files of `verity.d` that it hides.
    hidden: Vec<String>,
    sbat_generation: u32,
    #[serde(flatten)]
    changes: Option<&'a Changes>,
}

impl fmt::Display for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for subject in &self.trusted {
            writeln!(f, "trusts   {} ({})", subject.subject, subject.fingerprint)?;
        }
        for name in &self.hidden {
            writeln!(f, "hides    verity.d/{name}")?;
        }
        if let Some(output) = self.output {
            writeln!(f, "file     {}", output.display())?;
        }
        self.changes.map_or(Ok(()), |changes| changes.fmt(f))
    }
}
