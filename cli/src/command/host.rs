//! `ukikit host`: its verbs, and the options that say which host, which UKI and where secrets come from.

mod apply;
mod import;
mod plan;
mod recovery;
mod schema;

pub(crate) use apply::refuse_errors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use ukikit::fleet::Values;
use ukikit::host::{Destination, HostFile, Plan, Sources, State, directory};
use ukikit_creds::tpm::Tpm;
use ukikit_creds::{HostIdentity, Secret, Timestamp};
use ukikit_esp::{Companion, Esp, Target, UkiPath};

use super::cred::{TpmDevice, read_identity};
use super::ext::passphrase;
use crate::file;
use crate::output::{Output, with_hint};
use crate::system;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show what a host file makes: credentials, extensions, places, and what `ukikit check` will say; no secret is read
    Plan(plan::Plan),
    /// Seal and place what a host file asks for, as one change that `ukikit esp undo` takes back
    Apply(apply::Apply),
    /// Write the host file that an existing system implies, and say what it cannot express
    Import(import::Import),
    /// Write what opens the emergency shell where the TPM opens nothing, as a tree for a signed addon or extension
    Recovery(recovery::Recovery),
    /// Print the JSON schema of host files
    Schema(schema::Schema),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Plan(verb) => verb.run(out),
            Self::Apply(verb) => verb.run(out),
            Self::Import(verb) => verb.run(out),
            Self::Recovery(verb) => verb.run(out),
            Self::Schema(verb) => verb.run(out),
        }
    }
}

/// The host, by its file and its TPM, and the UKI.
#[derive(Debug, Args)]
struct Host {
    /// What the host is to be
    #[arg(value_name = "HOST.toml")]
    file: PathBuf,
    /// The UKI, by its path on the ESP
    #[arg(long, value_name = "PATH")]
    uki: UkiPath,
    /// The host, by its identity file [default: this machine's TPM]
    #[arg(long = "for", value_name = "IDENTITY", conflicts_with = "device")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmDevice,
    /// An extension image to place along
    #[arg(long, value_name = "IMAGE")]
    extension: Vec<PathBuf>,
    /// Where it is kept what was sealed [default: .ukikit-host beside the host file]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    secrets: Secrets,
}

/// Where secrets come from.
#[derive(Debug, Args)]
struct Secrets {
    /// JSON with the values that the host file takes from `stdin`, {"NAME": string or {"base64": string}}; - for standard input
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Take secrets that stand in the host file
    #[arg(long)]
    allow_inline_secrets: bool,
}

/// Enough for one host.
const SECRETS_MAX: usize = 16 << 20;

impl Secrets {
    /// The host file, whose secrets stand in it by permission alone.
    fn host_file(&self, path: &Path) -> Result<HostFile> {
        let host = HostFile::read(path)?;
        if !self.allow_inline_secrets {
            let refused = host.refuse_inline_secrets();
            let refused = refused.with_context(|| path.display().to_string());
            refused.map_err(|error| {
                with_hint(error, "give it as { file = … }, { command = […] }, { stdin = … } or { prompt = … }, or add --allow-inline-secrets")
            })?;
        }
        Ok(host)
    }

    /// What gives the values; relative paths start from `directory`.
    fn values(&self, directory: PathBuf) -> Result<Values> {
        let secrets = self.secrets.as_deref();
        let secrets = secrets
            .map(|path| file::read(path, SECRETS_MAX))
            .transpose()?;
        Values::new(directory, secrets.as_ref().map(|json| json.as_slice()))
    }
}

impl Host {
    fn target(&self) -> Target {
        Target::Uki(self.uki.clone())
    }

    fn state(&self) -> State {
        State::of(&self.file, self.state.as_deref())
    }

    fn values(&self) -> Result<Values> {
        self.secrets.values(directory(&self.file))
    }

    /// What will be made on `esp`, perhaps as a set on trial.
    fn plan(&self, esp: &Esp, on_trial: bool) -> Result<Plan> {
        let host = self.secrets.host_file(&self.file)?;
        let identity = self.identity()?;
        let images = self.extension.iter().map(|path| Companion::read(path));
        let destination = Destination {
            esp,
            uki: self.uki.clone(),
            identity: &identity,
            identity_name: self.identity.as_deref().unwrap_or(Path::new("the TPM")),
            images: images.collect::<Result<_, _>>()?,
            now: Timestamp::from_micros(system::now_micros()),
            on_trial,
        };
        Plan::new(&host, &self.file, destination)
    }

    fn identity(&self) -> Result<HostIdentity> {
        if let Some(path) = &self.identity {
            return read_identity(path);
        }
        let (mut transport, mut rng) = (self.tpm.open()?, system::random());
        Ok(HostIdentity::of_tpm(&mut Tpm::new(
            &mut *transport,
            &mut rng,
        ))?)
    }

    /// How to get the extensions that nothing brings.
    fn hint_at_extensions(&self, error: anyhow::Error, plan: &Plan) -> anyhow::Error {
        let missing = plan.missing();
        if missing.is_empty() {
            return error;
        }
        let recipes: Vec<String> = missing
            .iter()
            .map(|name| format!("--recipe={name}"))
            .collect();
        let hint = format!(
            "ukikit ext build --name={0} {1} --uki=FILE --private-key=KEY --certificate=CERT --output={0}.sysext.raw, then --extension={0}.sysext.raw here",
            missing.last().unwrap_or(&"host"),
            recipes.join(" ")
        );
        with_hint(error, hint)
    }
}

/// A line typed on the terminal.
fn ask(question: &str) -> Result<Secret> {
    let no_terminal = anyhow!("cannot ask for a secret without a terminal");
    Ok(Secret::copied_from(&passphrase::ask(
        question,
        no_terminal,
    )?))
}

/// With the terminal to ask on.
fn sources(values: &Values) -> Sources<'_> {
    Sources { values, ask: &ask }
}
