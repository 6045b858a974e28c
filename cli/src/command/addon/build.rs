//! `ukikit addon build`

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use ukikit::Initrd;
use ukikit_esp::{AddonImage, AddonTarget, Architecture, Sbat, Uki, check_addon};
use ukikit_sysext::initrd::Facts;
use ukikit_sysext::{Error, Release, System, Tree, initrd, is_portable_xattr, needs, supply};

use super::output::{Made, name_of, write};
use super::signing::SecureBoot;
use super::{fit, read_pe, usable};
use crate::command::features;
use crate::file;
use crate::output::{Json, Output, with_hint};

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Where to write it: NAME.addon.efi
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Directory whose files are added to the initrd, as they are to appear below /
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
    /// Of this recipe, what the UKI lacks, taken from the system at --root= and started with the initrd; may be given several
    /// times
    #[arg(long, value_name = "NAME", requires = "uki")]
    recipe: Vec<String>,
    /// A kernel module that the UKI lacks, with its dependencies and firmware, taken from the system at --root=
    #[arg(long, value_name = "NAME", requires = "uki")]
    kernel_module: Vec<String>,
    /// The system whose packages the UKI was made from
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Directory with recipes of your own: NAME/recipe.toml and NAME/tree
    #[arg(long, value_name = "DIR")]
    recipes: Option<PathBuf>,
    /// A ready archive to add to the initrd
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tree", "recipe", "kernel_module"])]
    initrd: Option<PathBuf>,
    /// How the files are packed: none or zstd, with `,LEVEL` behind
    #[arg(long, value_name = "CODEC", default_value_t)]
    compress: initrd::Packing,
    /// Put this behind the kernel's command line; `@FILE` reads it from a file
    #[arg(long, value_name = "TEXT|@FILE")]
    cmdline: Option<String>,
    /// A cpio archive with microcode
    #[arg(long, value_name = "FILE")]
    ucode: Option<PathBuf>,
    /// A devicetree, compiled
    #[arg(long, value_name = "FILE")]
    devicetree: Option<PathBuf>,
    /// Use it with the kernel of this version alone, as `uname -r` says it
    #[arg(long, value_name = "VERSION")]
    uname: Option<String>,
    /// Fit it to this UKI: its architecture, and a check that its stub would use the addon
    #[arg(long, value_name = "FILE")]
    uki: Option<PathBuf>,
    /// Use it with the kernel of the UKI alone
    #[arg(long, requires = "uki", conflicts_with = "uname")]
    same_kernel: bool,
    /// The processor, as systemd spells it: x86-64 or arm64 [default: the UKI's, or this machine's]
    #[arg(long, value_name = "ARCH")]
    architecture: Option<Processor>,
    /// Generation of the component `uki-addon.NAME`, by which shim can be told to refuse older ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    sbat_generation: u32,
    /// More rows for .sbat; `@FILE` reads them from a file
    #[arg(long, value_name = "ROWS|@FILE")]
    sbat: Option<String>,
    #[command(flatten)]
    secure_boot: SecureBoot,
    /// Do everything but write the addon
    #[arg(long)]
    dry_run: bool,
    /// How to print what was made
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

/// Those there are addons for.
#[derive(Debug, Clone, Copy)]
struct Processor(Architecture);

impl FromStr for Processor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Architecture::X86_64, Architecture::Arm64]
            .into_iter()
            .find(|architecture| architecture.name() == text)
            .map(Self)
            .ok_or_else(|| "is neither x86-64 nor arm64".to_owned())
    }
}

/// What changes most PCRs while the initrd runs.
const SEPARATOR: &str = "usr/lib/systemd/system/systemd-pcrosseparator.service";
/// Text files and devicetrees.
const SMALL: usize = 1 << 20;
/// Archives.
const LARGE: usize = 1 << 30;

impl Build {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let name = name_of(&self.output)?;
        let uki = self.uki.as_deref().map(read_pe).transpose()?;
        let uki = match (&self.uki, &uki) {
            (Some(path), Some(bytes)) => Some(usable(path, Uki::parse(bytes))?),
            _ => None,
        };
        let addon = self.addon(&name, uki.as_ref(), out)?;
        let bytes = addon.to_bytes()?;
        if let Some(uki) = &uki {
            let findings = check_addon(&bytes, &AddonTarget::of(uki));
            if let Some(refusal) = findings.iter().find(|finding| finding.is_refusal()) {
                bail!("the UKI would not use the addon: {refusal}");
            }
        }
        let bytes = self.secure_boot.sign(bytes, out)?;
        if !self.dry_run {
            write(&self.output, &bytes)?;
        }
        let made = Made::new(&self.output, &addon, bytes.len(), !self.dry_run);
        out.show(&made, self.json)
    }

    fn addon(&self, name: &str, uki: Option<&Uki<'_>>, out: &mut Output) -> Result<AddonImage> {
        let sbat = self.sbat_of(name)?;
        let mut addon = AddonImage::new(self.architecture_for(uki)?, sbat);
        addon.cmdline = self.cmdline.as_deref().map(one_line).transpose()?;
        addon.uname.clone_from(&self.uname);
        if self.same_kernel {
            let target = uki.map(AddonTarget::of).unwrap_or_default();
            addon.uname = Some(
                target
                    .uname
                    .context("the UKI does not say its kernel version")?,
            );
        }
        addon.ucode = self.ucode.as_deref().map(archive).transpose()?;
        addon.dtb = self.devicetree.as_deref().map(devicetree).transpose()?;
        addon.initrd = match &self.initrd {
            Some(path) => Some(archive(path)?),
            None => self.pack(uki, out)?,
        };
        Ok(addon)
    }

    fn sbat_of(&self, name: &str) -> Result<Sbat> {
        let mut sbat = Sbat::new(name, self.sbat_generation)?;
        if let Some(rows) = &self.sbat {
            for entry in Sbat::parse(given(rows)?.as_bytes())?.entries() {
                sbat.add(entry.clone());
            }
        }
        Ok(sbat)
    }

    fn architecture_for(&self, uki: Option<&Uki<'_>>) -> Result<Architecture> {
        let own = uki.and_then(Uki::architecture);
        match (self.architecture.map(|Processor(given)| given), own) {
            (Some(given), _) => Ok(given),
            (None, Some(own)) => Ok(own),
            (None, None) => native().ok_or_else(|| {
                with_hint(
                    anyhow!("there are no addons for this machine's architecture"),
                    "give --architecture= or --uki=",
                )
            }),
        }
    }

    /// The files of the directory, and what of recipes and drivers the UKI lacks.
    fn pack(&self, uki: Option<&Uki<'_>>, out: &mut Output) -> Result<Option<Vec<u8>>> {
        let own = self.tree.as_deref().map(Tree::read).transpose()?;
        let wishes = !self.recipe.is_empty() || !self.kernel_module.is_empty();
        if own.is_none() && !wishes {
            return Ok(None);
        }
        let initrd = uki.map(|uki| Initrd::read(uki.initrd()?));
        let initrd = initrd.transpose()?;
        let mut tree = match (&initrd, uki) {
            (Some(initrd), Some(uki)) if wishes => self.supply(initrd, uki, out)?,
            _ => Tree::new(),
        };
        if wishes && tree.is_empty() {
            let what = [&self.recipe[..], &self.kernel_module].concat().join(", ");
            if own.is_none() && !self.carries_more() {
                bail!("the UKI has all of this already: {what}");
            }
            out.note(format_args!("the UKI has all of this already: {what}"));
            if own.is_none() {
                return Ok(None);
            }
        }
        if let Some(mut own) = own {
            own.retain_xattrs(is_portable_xattr);
            features::add(&mut tree, &own)?;
        }
        tree.own_by_root();
        tree.set_times(0);
        if let Some(initrd) = &initrd {
            fit::check(&tree, &initrd.tree)?;
            if wishes {
                self.check(&tree, initrd, out)?;
            }
        }
        Ok(Some(initrd::write(&tree, self.compress)?))
    }

    fn carries_more(&self) -> bool {
        self.cmdline.is_some() || self.ucode.is_some() || self.devicetree.is_some()
    }

    fn supply(&self, initrd: &Initrd, uki: &Uki<'_>, out: &mut Output) -> Result<Tree> {
        let features = features::find(&self.recipe, self.recipes.as_deref())?;
        let kernel = AddonTarget::of(uki).uname.or_else(|| {
            let only = initrd.facts.kernel(None);
            only.map(|kernel| kernel.version.clone())
        });
        let mut content = Tree::new();
        features::collect(
            &System::at(&self.root),
            &features,
            &self.kernel_module,
            kernel.as_deref(),
            &initrd.tree,
            &mut content,
        )?;
        let start = features
            .iter()
            .flat_map(|feature| feature.starts(&content, &initrd.tree));
        let start: Vec<String> = start.cloned().collect();
        features::check_units(&content, &initrd.tree, &start)?;
        let mut tree = supply(&content, &initrd.tree, &start)?;
        if !tree.is_empty() {
            features::tell_needs(&features, &self.recipe, "addon", out);
        }
        // Whoever runs in an initrd is root: capabilities of a package's files give nothing there.
        tree.retain_xattrs(|_| false);
        if tree.get(SEPARATOR).is_some() {
            out.warning(
                "systemd-pcrosseparator.service will change PCRs 0 to 7, 9, 12, 13 and 14 early in the initrd: what is bound to \
                 them and opened after that has to be bound anew, see ukikit predict",
            );
        }
        Ok(tree)
    }

    /// Whether all that is brought would run.
    fn check(&self, tree: &Tree, initrd: &Initrd, out: &mut Output) -> Result<()> {
        let findings = needs::check(tree, &initrd.tree, &Release::default())?;
        if !findings.is_empty() {
            return Err(features::refused(
                Error::Refused { findings },
                "would not work in this UKI",
            ));
        }
        features::tell_firmware(tree, &initrd.tree, out)?;
        features::tell_libraries(&System::at(&self.root), tree, &initrd.tree, out)?;
        let brought = Facts::of(tree).ok().and_then(|facts| facts.systemd);
        if let (Some(brought), Some(there)) = (brought, initrd.facts.systemd)
            && brought != there
        {
            out.warning(format_args!(
                "the programs of systemd {brought} go into an initrd with systemd {there}: better take them from a system with \
                 the packages of the UKI, see --root="
            ));
        }
        Ok(())
    }
}

fn native() -> Option<Architecture> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::X86_64),
        "aarch64" => Some(Architecture::Arm64),
        _ => None,
    }
}

/// The text itself, or that of the file behind `@`.
fn given(text: &str) -> Result<String> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(text.to_owned());
    };
    let bytes = file::read(Path::new(path), SMALL)?;
    let text = str::from_utf8(&bytes).with_context(|| format!("`{path}` is not UTF-8"))?;
    Ok(text.to_owned())
}

/// A file may spread options over lines.
fn one_line(text: &str) -> Result<String> {
    let words = given(text)?;
    let words: Vec<&str> = words.split_whitespace().collect();
    Ok(words.join(" "))
}

fn archive(path: &Path) -> Result<Vec<u8>> {
    let bytes = file::read(path, LARGE)?;
    initrd::read(&bytes).with_context(|| format!("cannot use {}", file::shown_input(path)))?;
    Ok(bytes.to_vec())
}

/// Devicetree Specification, "Header": magic and size of the whole, big endian.
fn devicetree(path: &Path) -> Result<Vec<u8>> {
    let bytes = file::read(path, SMALL)?;
    let size = bytes
        .get(4..8)
        .and_then(|size| size.try_into().ok())
        .map(u32::from_be_bytes);
    if !bytes.starts_with(&[0xD0, 0x0D, 0xFE, 0xED])
        || size.map(usize::try_from) != Some(Ok(bytes.len()))
    {
        bail!("{} is not a compiled devicetree", file::shown_input(path));
    }
    Ok(bytes.to_vec())
}
