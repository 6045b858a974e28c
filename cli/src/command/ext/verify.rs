//! `ukikit ext verify`

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit::Carrier;
use ukikit_creds::Timestamp;
use ukikit_sysext::erofs::Compression;
use ukikit_sysext::{
    Architecture, Certificates, Check, Differing, Error, Finding, Image, Plan, Rebuilt,
    Requirements, RootHash, Scope, Tree, escape,
};

use super::build::CONFEXT_IN_INITRD;
use super::content::Content;
use super::{SCHEMA, read_base, read_certificate};
use crate::command::cred::read_identity;
use crate::output::{Json, Output};
use crate::progress::Progress;
use crate::system;

#[derive(Debug, Args)]
#[command(mut_group("Content", |options| options.requires("rebuild_from")))]
pub(crate) struct Verify {
    /// The image; its name tells which release file counts
    image: PathBuf,
    /// A certificate that is trusted, PEM; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    certificate: Vec<PathBuf>,
    /// Where it is to be merged: initrd, system, portable
    #[arg(long, default_value = "initrd")]
    scope: Scope,
    /// What it is to be merged into: an os-release, initrd or UKI [default: this machine's os-release]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The host, by its identity file: refuse the carrier of another
    #[arg(long = "for", value_name = "IDENTITY")]
    identity: Option<PathBuf>,
    /// Prove that this directory, built again, gives the image: with what the image tells of its release file, epoch
    /// and compression, and with those options below that were given when it was built
    #[arg(long, value_name = "DIR")]
    rebuild_from: Option<PathBuf>,
    #[command(flatten)]
    content: Content,
    /// How to print the verdict
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Verify {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let trusted = self.certificate.iter().map(|path| read_certificate(path));
        let trusted = Certificates::new(trusted.collect::<Result<Vec<_>>>()?);
        let requirements = self.requirements()?;
        let cannot = || format!("cannot read `{}`", self.image.display());
        let file = File::open(&self.image).with_context(cannot)?;
        let image = Image::open(BufReader::new(file));
        let mut findings = Vec::new();
        let mut keep = |result: Result<RootHash, Error>| match result {
            Ok(root_hash) => Ok(Some(root_hash)),
            Err(Error::Refused { findings: reasons }) => {
                findings.extend(reasons);
                Ok(None)
            }
            Err(error) => Err(anyhow::Error::new(error).context(cannot())),
        };
        let (verified, rebuilt) = match image {
            Ok(image) => {
                let verified = keep(image.verify(&trusted, &requirements))?;
                if verified.is_some() {
                    findings.extend(self.refused_carrier(&image.tree()?)?);
                }
                (verified, self.rebuild(&image, &mut findings)?)
            }
            Err(error) => (keep(Err(error))?, None),
        };
        let accepted = findings.is_empty();
        let verdict = Verdict {
            schema: SCHEMA,
            image: &self.image,
            accepted,
            root_hash: verified.filter(|_| accepted),
            rebuilt: rebuilt.map(|compression| compression.to_string()),
            findings,
        };
        if verdict.accepted && self.extends_etc() {
            out.warning(CONFEXT_IN_INITRD);
        }
        out.show(&verdict, self.json)?;
        Ok(if accepted {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// What speaks against a carrier: its expiry and, when the host is known, that it is another's.
    fn refused_carrier(&self, tree: &Tree) -> Result<Option<Finding>> {
        let Some(carrier) = Carrier::find(tree)? else {
            return Ok(None);
        };
        let host = self.identity.as_deref().map(read_identity).transpose()?;
        let now = Timestamp::from_micros(system::now_micros());
        let checked = host
            .map_or(Ok(()), |host| carrier.check_host(&host))
            .and_then(|()| carrier.check_expiry(now));
        let finding = |error: anyhow::Error| {
            Finding::new(Check::Content, Carrier::place(), error.to_string())
        };
        Ok(checked.err().map(finding))
    }

    /// How the image was compressed, if a tree was given and gives it; else why not.
    fn rebuild<R: Read + Seek + Send + 'static>(
        &self,
        image: &Image<R>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Compression>> {
        let Some(directory) = &self.rebuild_from else {
            return Ok(None);
        };
        let description = image.describe(super::file_name(&self.image).as_deref())?;
        let name = description
            .release_file
            .as_deref()
            .and_then(|path| path.rsplit_once("extension-release."));
        let (Some((_, name)), Some(class)) = (name, description.class) else {
            // The reasons why it has no release file are among the findings.
            return Ok(None);
        };
        let tree = Tree::read(directory)?;
        let progress = Progress::bytes(tree.content_size());
        // The partition says for which machine it is; the data does not.
        let mut plan = Plan::new(name.parse()?, Architecture::ALL[0], tree);
        plan.class = class;
        plan.scopes.clear();
        self.content.apply(&mut plan)?;
        let refused = match image.rebuild(&plan, &mut |read| progress.add(read)) {
            Ok(Rebuilt::Same(compression)) => return Ok(Some(compression)),
            Ok(Rebuilt::Files(differing)) => vec![first_of(&differing)],
            Ok(Rebuilt::Written(how)) => {
                let what = format!("holds the files of the tree, but was written {how}");
                vec![Finding::new(Check::Rebuild, "data", what)]
            }
            Ok(_) => Vec::new(),
            Err(Error::Refused { findings }) => findings,
            Err(error) => return Err(error.into()),
        };
        findings.extend(refused);
        Ok(None)
    }

    /// Whether this is about a confext in an initrd, by the name of the file.
    fn extends_etc(&self) -> bool {
        let is_confext =
            super::file_name(&self.image).is_some_and(|name| name.ends_with(".confext.raw"));
        is_confext && self.scope == Scope::Initrd
    }

    fn requirements(&self) -> Result<Requirements> {
        let base = match &self.base {
            Some(path) => read_base(path)?,
            None => read_base(this_machine())?,
        };
        let mut requirements = Requirements::new();
        requirements.scope = Some(self.scope);
        requirements.architecture = base.architecture.or_else(Architecture::native);
        requirements.base = Some(base.release);
        requirements.file_name = super::file_name(&self.image);
        Ok(requirements)
    }
}

/// The first path that differs, and how many more do.
fn first_of(differing: &[Differing]) -> Finding {
    let (place, mut what) = match differing.split_first() {
        Some((first, [])) => (escape(&first.path), first.summary()),
        Some((first, rest)) => (
            escape(&first.path),
            format!("{} (and {} more paths)", first.summary(), rest.len()),
        ),
        None => Default::default(),
    };
    what.insert_str(0, "image and tree differ: ");
    Finding::new(Check::Rebuild, place, what)
}

fn this_machine() -> &'static Path {
    let first = Path::new("/etc/os-release");
    if first.exists() {
        first
    } else {
        Path::new("/usr/lib/os-release")
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict<'a> {
    schema: u32,
    image: &'a Path,
    accepted: bool,
    root_hash: Option<RootHash>,
    /// The compression with which the tree gives the image.
    rebuilt: Option<String>,
    findings: Vec<Finding>,
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.image.display();
        if let Some(root_hash) = &self.root_hash {
            writeln!(f, "{image}: good, root hash {root_hash}")?;
        }
        if let Some(compression) = &self.rebuilt {
            writeln!(
                f,
                "{image}: its data is what the tree gives, compression {compression}"
            )?;
        }
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(f, "{image}: {finding}"))
    }
}
