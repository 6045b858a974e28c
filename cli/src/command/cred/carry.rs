//! `ukikit cred carry` and `ukikit cred carried`

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use ukikit::Carrier;
use ukikit_creds::{EncryptedCredential, Name, Timestamp};
use ukikit_sysext::{Architecture, Certificates, Image, ImageClass, Plan, Requirements};

use super::{moment, name, read_either, read_identity};
use crate::command::ext::read_certificate;
use crate::command::ext::signing::{self, Signing};
use crate::file;
use crate::output::{Json, Output, with_hint};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Carry {
    /// The credentials; each is called as its file without .cred
    #[arg(required = true, value_name = "CREDENTIAL")]
    credentials: Vec<PathBuf>,
    /// The host, by its identity file
    #[arg(long = "for", value_name = "IDENTITY")]
    identity: PathBuf,
    /// Which of the host's carriers it is: higher than of the one before
    #[arg(long, value_name = "N")]
    generation: u64,
    /// The last moment at which it is good, such as +90d
    #[arg(long, value_name = "TIME")]
    not_after: String,
    #[command(flatten)]
    signing: Signing,
    /// Where to write it: NAME.sysext.raw
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The machine it is for, as systemd spells it [default: this one's]
    #[arg(long, value_name = "ARCH")]
    architecture: Option<Architecture>,
    /// Do everything but write the image
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Carried {
    /// The carrier
    image: PathBuf,
    /// The host, by its identity file
    #[arg(long = "for", value_name = "IDENTITY")]
    identity: PathBuf,
    /// A certificate that is trusted, PEM; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    certificate: Vec<PathBuf>,
    /// Refuse earlier generations
    #[arg(long, value_name = "N", default_value_t = 0)]
    generation: u64,
    /// The time to check the expiry against [default: now]
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
    /// Print JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Carry {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let host = read_identity(&self.identity)?;
        let now = Timestamp::from_micros(system::now_micros());
        let not_after = moment::parse(&self.not_after, now)?;
        if not_after < now {
            bail!("--not-after={} has passed", self.not_after);
        }
        let (carrier, tree) =
            Carrier::build(&host, self.generation, not_after, &self.credentials()?)?;
        let architecture = self.architecture.or_else(Architecture::native);
        let architecture = architecture.ok_or_else(|| {
            with_hint(
                anyhow!("this machine's architecture has no partition types"),
                "give --architecture=",
            )
        })?;
        let plan = Plan::new(self.extension_name()?, architecture, tree);
        let signer = self.signing.signer()?;
        if self.dry_run {
            plan.build(&signer, &mut io::empty())?;
        } else {
            signing::write(&self.output, |file| plan.build(&signer, file))?;
        }
        out.note(format_args!(
            "`{}`: {}",
            self.output.display(),
            Shown(&carrier)
        ));
        Ok(())
    }

    fn credentials(&self) -> Result<BTreeMap<Name, EncryptedCredential>> {
        let mut credentials = BTreeMap::new();
        for path in &self.credentials {
            let name = name(None, path)?
                .with_context(|| format!("{} has no name", file::shown_input(path)))?;
            let (credential, _) = read_either(path)?;
            if credentials.insert(name.clone(), credential).is_some() {
                bail!("{name} is there twice");
            }
        }
        Ok(credentials)
    }

    /// NAME of `NAME.sysext.raw`.
    fn extension_name(&self) -> Result<ukikit_sysext::Name> {
        let file = self
            .output
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let name = file
            .strip_suffix(".sysext.raw")
            .or_else(|| file.strip_suffix(".raw"));
        let name: ukikit_sysext::Name = name.unwrap_or(&file).parse()?;
        name.check_file_name(&file, ImageClass::Sysext)?;
        Ok(name)
    }
}

impl Carried {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let host = read_identity(&self.identity)?;
        let now = Timestamp::from_micros(system::now_micros());
        let time = self.timestamp.as_deref();
        let now = time.map_or(Ok(now), |time| moment::parse(time, now))?;
        let carrier = self.carrier().and_then(|carrier| {
            carrier.check_host(&host)?;
            carrier.check_expiry(now)?;
            carrier.check_generation(self.generation)?;
            Ok(carrier)
        });
        let carrier = carrier.with_context(|| format!("cannot take `{}`", self.image.display()))?;
        out.show(&Shown(&carrier), self.json)
    }

    /// The manifest, once the image that holds it was verified whole.
    fn carrier(&self) -> Result<Carrier> {
        let trusted = self.certificate.iter().map(|path| read_certificate(path));
        let trusted = Certificates::new(trusted.collect::<Result<Vec<_>>>()?);
        let image = Image::open(BufReader::new(File::open(&self.image)?))?;
        let mut requirements = Requirements::new();
        requirements.file_name = self
            .image
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        image.verify(&trusted, &requirements)?;
        Carrier::find(&image.tree()?)?
            .with_context(|| format!("it is no carrier: it has no {}", Carrier::place()))
    }
}

/// A carrier in a line.
#[derive(Serialize)]
#[serde(transparent)]
struct Shown<'a>(&'a Carrier);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Carrier {
            generation,
            not_after,
            credentials,
            ..
        } = self.0;
        write!(
            f,
            "generation {generation}, good until @{not_after}, with {}",
            credentials.join(", ")
        )
    }
}
