//! `ukikit ext build`

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde::Serialize;
use ukikit::Base;
use ukikit_signing::KeyPair;
use ukikit_sysext::erofs::Compression;
use ukikit_sysext::{
    Architecture, Format, Guid, ImageClass, Name, Plan, Release, Report, RootHash, Scope,
};

use super::beside::Beside;
use super::content::Content;
use super::signing::{self, Signing, explain};
use super::source::{Source, Taking};
use super::{SCHEMA, read_base};
use crate::output::{Json, Output, with_hint};
use crate::progress::Progress;
use crate::system::environment;

#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    image: Contents,
    #[command(flatten)]
    signing: Signing,
}

/// What an image is made of, whoever signs it.
#[derive(Debug, Args)]
pub(super) struct Contents {
    /// Name of the extension
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Where to write it: NAME.sysext.raw or NAME.raw, with --confext NAME.confext.raw
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    taking: Taking,
    #[command(flatten)]
    beside: Beside,
    #[command(flatten)]
    content: Content,
    /// The machine it is for, as systemd spells it [default: this one's, or the UKI's]
    #[arg(long, value_name = "ARCH")]
    architecture: Option<Architecture>,
    /// Fields for the release file
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_field)]
    release: Vec<(String, String)>,
    /// UUID from which all others and the salt follow [default: from name and release file]
    #[arg(long, value_name = "UUID")]
    seed: Option<Guid>,
    /// Fit it to this os-release, initrd or UKI [default: fits everything]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Fit it to the initrd of this UKI
    #[arg(long, value_name = "FILE", conflicts_with = "base")]
    uki: Option<PathBuf>,
    /// Extend /etc instead of /usr and /opt
    #[arg(long)]
    confext: bool,
    /// Where it is merged: initrd, system, portable [default: initrd, with --confext system]
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<Scope>,
    /// none, lz4 or zstd, with `,LEVEL` behind (lz4: 1 to 12, zstd: 1 to 22). zstd makes smaller images, but
    /// only some kernels from 6.10 on read it [default: zstd if the initrd or UKI it is fitted to has a kernel
    /// module erofs that decodes it, else lz4]
    #[arg(long, value_name = "CODEC")]
    compress: Option<Compression>,
    /// Bytes that are compressed together: a power of two from 4096 to 1048576 [default: what suits the codec]
    #[arg(long, value_name = "BYTES", value_parser = parse_cluster)]
    cluster_size: Option<u32>,
    /// The file system: erofs, or squashfs, for which the program mksquashfs must be installed
    #[arg(long, value_name = "FORMAT", default_value = "erofs")]
    format: Format,
    /// Do everything but write the image
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How to print what was made
    #[arg(long, value_name = "FORM", default_value = "off")]
    pub(super) json: Json,
}

fn parse_cluster(text: &str) -> Result<u32, String> {
    let size = text.parse().ok();
    size.filter(|size: &u32| size.is_power_of_two() && (4096..=1 << 20).contains(size))
        .ok_or_else(|| "is not a power of two from 4096 to 1048576".to_owned())
}

fn parse_field(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("is not KEY=VALUE")?;
    let checked = Release::default().set(key, value);
    checked.map_err(|error| error.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Build {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let plan = self.image.plan(out)?;
        let signer = self.signing.signer()?;
        signing::warn_of_dates(signer.certificate(), out);
        let built = self.image.build(&plan, Some(&signer))?;
        out.show(&built, self.image.json)
    }
}

impl Contents {
    /// Builds the image, signed or with an empty signature partition, and writes it unless told not to.
    pub(super) fn build<'a>(
        &'a self,
        plan: &'a Plan,
        signer: Option<&KeyPair>,
    ) -> Result<Built<'a>> {
        let started = Instant::now();
        let content_size = plan.tree.content_size();
        let progress = Progress::bytes(content_size);
        let mut progress = |read| progress.add(read);
        let report = if self.dry_run {
            // What is written and forgotten has the same size and hash.
            signing::build(plan, signer, &mut io::empty(), &mut progress).map_err(explain)?
        } else {
            signing::write(&self.output, |file| {
                signing::build(plan, signer, file, &mut progress)
            })?
        };
        Ok(Built {
            schema: SCHEMA,
            name: plan.name.as_str(),
            output: &self.output,
            dry_run: self.dry_run,
            format: self.format.to_string(),
            compression: plan.compression.to_string(),
            content_size,
            report,
            took: Took {
                seconds: started.elapsed().as_secs_f64(),
            },
        })
    }

    pub(super) fn plan(&self, out: &mut Output) -> Result<Plan> {
        let class = if self.confext {
            ImageClass::Confext
        } else {
            ImageClass::Sysext
        };
        let file_name = super::file_name(&self.output).unwrap_or_default();
        let name: Name = self.name.parse()?;
        name.check_file_name(&file_name, class)?;
        let base = self.base.as_ref().or(self.uki.as_ref());
        let base = base.map(|path| read_base(path)).transpose()?;
        let of_base = base.as_ref().and_then(|base| base.architecture);
        let architecture = self.architecture.or(of_base).or_else(Architecture::native);
        let architecture = architecture.ok_or_else(|| {
            with_hint(
                anyhow!("this machine's architecture has no partition types"),
                "give --architecture=",
            )
        })?;
        let taken = self.source.take(&self.taking, &name, base.as_ref(), out)?;
        self.beside.check(&taken.tree, &file_name)?;
        let mut plan = Plan::new(name, architecture, taken.tree);
        plan.class = class;
        let of_base = base.as_ref().map(Base::compression);
        plan.compression = self.compress.or(of_base).unwrap_or(Compression::LZ4);
        plan.format = self.format;
        plan.cluster = self.cluster_size;
        plan.base = base.map(|base| base.release);
        plan.scopes = scopes(&self.scope, class);
        if class == ImageClass::Confext && plan.scopes.contains(&Scope::Initrd) {
            out.warning(CONFEXT_IN_INITRD);
        }
        plan.seed = self.seed;
        plan.epoch = epoch()?;
        for (key, value) in taken.release {
            plan.release.set(key, value)?;
        }
        for (key, value) in &self.release {
            plan.release.set(key, value)?;
        }
        self.content.apply(&mut plan)?;
        Ok(plan)
    }
}

/// Those given, else where an extension of its class does no harm.
fn scopes(given: &[Scope], class: ImageClass) -> Vec<Scope> {
    match (given, class) {
        ([], ImageClass::Confext) => vec![Scope::System],
        ([], _) => vec![Scope::Initrd],
        (given, _) => given.to_vec(),
    }
}

/// What somebody who asks for a confext in an initrd should know.
pub(super) const CONFEXT_IN_INITRD: &str = "a confext makes /etc of the initrd read-only, noexec and nosuid: what writes there, \
     like dracut's network set-up or systemd-tmpfiles, fails; credentials or a sysext do not";

/// `SOURCE_DATE_EPOCH`, or 0: an image never depends on when it was made.
fn epoch() -> Result<u64> {
    let Some(text) = environment("SOURCE_DATE_EPOCH") else {
        return Ok(0);
    };
    text.parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH `{text}` is not a number of seconds"))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Built<'a> {
    schema: u32,
    name: &'a str,
    output: &'a Path,
    dry_run: bool,
    format: String,
    compression: String,
    /// Bytes in the files of the tree.
    content_size: u64,
    #[serde(flatten)]
    report: Report,
    took: Took,
}

impl Built<'_> {
    /// What is to be signed.
    pub(super) fn root_hash(&self) -> RootHash {
        self.report.root_hash
    }
}

/// What differs each time; all else is the same for the same tree.
#[derive(Debug, Serialize)]
struct Took {
    seconds: f64,
}

impl fmt::Display for Built<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            root_hash,
            size,
            seed,
            release,
            ..
        } = &self.report;
        let written = if self.dry_run { " (not written)" } else { "" };
        writeln!(f, "image      {}{written}", self.output.display())?;
        writeln!(f, "size       {size}")?;
        let (content, format, codec) = (self.content_size, &self.format, &self.compression);
        writeln!(f, "content    {content} in {format}, compression {codec}")?;
        writeln!(f, "root hash  {root_hash}")?;
        writeln!(f, "seed       {seed}")?;
        for (at, (key, value)) in release.iter().enumerate() {
            let title = if at == 0 { "release" } else { "" };
            writeln!(f, "{title:<10} {key}={value}")?;
        }
        Ok(())
    }
}
