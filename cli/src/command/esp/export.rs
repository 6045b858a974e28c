//! `ukikit esp export`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use ukikit::PlannedBoot;
use ukikit_creds::Name;
use ukikit_esp::{AddonVerdict, Archive, ArchiveKind, Boot, File, Start, Target, UkiPath};
use zeroize::{Zeroize, Zeroizing};

use super::{Root, hint_at_ukis};
use crate::file;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Where it goes; - is standard output
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,
    #[command(flatten)]
    root: Root,
    /// The UKI whose companions they are; those for all UKIs come along
    #[arg(long, value_name = "PATH")]
    uki: UkiPath,
    /// As cpio archives, one behind the other: to be loaded behind the initrd of the UKI by iPXE, GRUB, Xen or QEMU
    #[arg(long, required = true)]
    cpio: bool,
    /// Also a credential in plain text, which the guest's systemd (262 and later) trusts as if it were part of the
    /// initrd. Whoever can read the archive can read it
    #[arg(long, value_name = "NAME:FILE", value_parser = loaded)]
    load_credential: Vec<(Name, PathBuf)>,
}

/// In bytes; PID 1 takes no more from all of them together.
const LARGEST_CREDENTIAL: usize = 1024 * 1024;

impl Export {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let target = Target::Uki(self.uki.clone());
        let esps = self.root.open(Some(&target))?;
        let [esp] = &esps[..] else {
            bail!("what is exported comes from one partition");
        };
        esp.uki(&self.uki)
            .map_err(|error| hint_at_ukis(error, esp))?;
        let planned = PlannedBoot::read(esp, self.uki.clone(), &[], Start::default())?;
        let mut bytes = archives(&planned.boot()?, out);
        if let Some(system) = self.system_credentials()? {
            bytes.extend_from_slice(system.as_bytes());
            out.warning(
                "the archive holds credentials in plain text: it is as secret as they are, and who can change it is trusted",
            );
        }
        if bytes.is_empty() {
            bail!("`{}` has no companions to export", self.uki);
        }
        file::write(&self.output, &bytes, out)
    }

    fn system_credentials(&self) -> Result<Option<Archive>> {
        let mut files = Vec::new();
        for (name, path) in &self.load_credential {
            let content = file::read(path, LARGEST_CREDENTIAL)?;
            files.push(File::new(format!("{name}.cred"), content.to_vec()));
        }
        let archive = Archive::pack(ArchiveKind::System, &files.iter().collect::<Vec<_>>());
        files.iter_mut().for_each(|file| file.content.zeroize());
        Ok(archive)
    }
}

/// What the stub hands to the kernel, in its order. What it does not hand over as files is said.
fn archives(boot: &Boot<'_>, out: &mut Output) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::new());
    for archive in &boot.archives {
        bytes.extend_from_slice(archive.as_bytes());
    }
    for addon in &boot.addons {
        if addon.verdict != AddonVerdict::Taken {
            out.warning(format_args!(
                "`{}` is left out: {}",
                addon.path, addon.verdict
            ));
            continue;
        }
        if let Some(initrd) = &addon.initrd {
            bytes.extend_from_slice(initrd);
            // The kernel looks for the next archive where a multiple of four bytes begins.
            let end = bytes.len().next_multiple_of(4);
            bytes.resize(end, 0);
        }
        if let Some(options) = &addon.command_line {
            let path = &addon.path;
            out.warning(format_args!(
                "`{path}` adds to the kernel's command line, so pass it there: {options}"
            ));
        }
        if addon.ucode.is_some() || addon.devicetree.is_some() {
            let path = &addon.path;
            out.warning(format_args!("the microcode and devicetrees of `{path}` are left out: only the stub hands them over"));
        }
    }
    bytes
}

fn loaded(text: &str) -> Result<(Name, PathBuf)> {
    let (name, path) = text.split_once(':').context("give it as NAME:FILE")?;
    Ok((name.parse()?, Path::new(path).into()))
}
