//! `ukikit cred`: its verbs, and what they share: where keys come from on this machine.

mod carry;
mod decrypt;
mod encrypt;
mod inspect;
mod judgement;
mod names;
mod opening;
mod reencrypt;
mod summary;
mod wish;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use ukikit::moment;
use ukikit_creds::{
    ENCRYPTED_MAX, EncryptedCredential, HOST_SECRET_PATH, HostIdentity, HostSecret, MachineId,
    Name, SEARCH_PATH, Scope,
};

use crate::file;
use crate::output::{Output, with_hint};
use crate::system::environment;

/// An identity has a few kilobytes.
const IDENTITY_MAX: usize = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a credential
    Encrypt(encrypt::Encrypt),
    /// Open a credential
    Decrypt(decrypt::Decrypt),
    /// Show everything of a credential that shows without a key
    Inspect(inspect::Inspect),
    /// List the well-known credentials: who reads them, where, since when
    Names(names::Names),
    /// Encrypt credentials anew: for another TPM, policy, host secret, expiry or encoding
    Reencrypt(reencrypt::Reencrypt),
    /// Put a host's credentials into a signed extension, which makes them authentic
    Carry(carry::Carry),
    /// Check that such a carrier is signed, for this host, and still good
    Carried(carry::Carried),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Encrypt(verb) => verb.run(out)?,
            Self::Decrypt(verb) => verb.run(out)?,
            Self::Inspect(verb) => verb.run(out)?,
            Self::Names(verb) => verb.run(out)?,
            Self::Reencrypt(verb) => verb.run(out)?,
            Self::Carry(verb) => verb.run(out)?,
            Self::Carried(verb) => verb.run(out)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `--encoding=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Encoding {
    /// Text, as systemd-creds writes it
    Base64,
    /// The bytes themselves, for generators and PID 1 of systemd up to 261
    Binary,
}

impl From<Encoding> for ukikit_creds::Encoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Base64 => Self::Base64,
            Encoding::Binary => Self::Binary,
        }
    }
}

/// The machine whose files and identity count.
#[derive(Debug, Args)]
struct Machine {
    /// Take the machine's files from below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The machine's credential secret [default: var/lib/systemd/credential.secret below --root]
    #[arg(long, value_name = "FILE")]
    host_secret: Option<PathBuf>,
    /// The machine ID to assume [default: etc/machine-id below --root]
    #[arg(long, value_name = "ID")]
    machine_id: Option<MachineId>,
    /// Scope to the user with this number or name
    #[arg(long, value_name = "USER")]
    uid: Option<String>,
    /// The user's name on the machine that opens it [default: from etc/passwd below --root]
    #[arg(long, value_name = "NAME", requires = "uid")]
    user: Option<String>,
}

impl Machine {
    /// Whether nothing was said of it.
    fn is_own(&self) -> bool {
        let named = self.host_secret.is_some() || self.machine_id.is_some() || self.uid.is_some();
        !named && self.root == Path::new("/")
    }

    fn host_secret_path(&self) -> PathBuf {
        let named = self
            .host_secret
            .clone()
            .or_else(|| environment("SYSTEMD_CREDENTIAL_SECRET").map(PathBuf::from));
        named.unwrap_or_else(|| self.root.join(HOST_SECRET_PATH))
    }

    /// The host secret. One given by name may be another machine's; this machine's own must fit its machine ID.
    fn host_secret(&self) -> Result<HostSecret> {
        let machine = match (&self.host_secret, self.machine_id) {
            (Some(_), None) => None,
            _ => Some(self.machine_id()?),
        };
        HostSecret::read(&self.host_secret_path(), machine).map_err(|error| match error {
            ukikit_creds::Error::ForeignHostSecret { .. } => with_hint(error, "it is left as it is; systemd would delete it. --machine-id= names the machine it belongs to"),
            error => error.into(),
        })
    }

    fn machine_id(&self) -> Result<MachineId> {
        if let Some(id) = self.machine_id {
            return Ok(id);
        }
        let path = self.root.join("etc/machine-id");
        let text = file::read(&path, 1024)?;
        let text = String::from_utf8_lossy(&text);
        text.parse()
            .with_context(|| format!("cannot use `{}`", path.display()))
    }

    /// The user to scope to or to open for.
    fn scope(&self) -> Result<Option<Scope>> {
        let Some(wanted) = &self.uid else {
            return Ok(None);
        };
        let machine_id = self.machine_id()?;
        if let (Ok(uid), Some(user)) = (wanted.parse(), &self.user) {
            return Ok(Some(Scope {
                uid,
                user: user.clone(),
                machine_id,
            }));
        }
        let path = self.root.join("etc/passwd");
        let passwd = file::read(&path, 16 << 20)?;
        let passwd = String::from_utf8_lossy(&passwd);
        let (user, uid) = passwd.lines().filter_map(passwd_entry).find(|(user, uid)| user == wanted || uid.to_string() == *wanted).ok_or_else(|| {
            with_hint(
                anyhow!("`{}` has no user {wanted:?}", path.display()),
                "give --uid=NUMBER and --user=NAME as the machine that opens the credential has them",
            )
        })?;
        Ok(Some(Scope {
            uid,
            user: self.user.clone().unwrap_or_else(|| user.to_owned()),
            machine_id,
        }))
    }

    /// The first of systemd's places below the root that has a file of this name.
    fn search(&self, name: &str) -> Option<PathBuf> {
        let mut places: Vec<PathBuf> = SEARCH_PATH
            .iter()
            .map(|place| self.root.join(place).join(name))
            .collect();
        if self.root.join("etc/initrd-release").exists() {
            places.push(self.root.join(".extra").join(name));
        }
        places.into_iter().find(|path| path.is_file())
    }
}

/// User name and number of a line of passwd(5).
fn passwd_entry(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    let user = fields.next()?;
    Some((user, fields.nth(1)?.parse().ok()?))
}

/// The TPM to talk to.
#[derive(Debug, Args)]
pub(crate) struct TpmDevice {
    /// The TPM: a device node, device:PATH, swtpm:host=HOST,port=PORT or swtpm:path=SOCKET
    /// [default: $SYSTEMD_TPM2_DEVICE, else /dev/tpmrm0]
    #[arg(long = "tpm2-device", value_name = "DEVICE")]
    device: Option<String>,
}

impl TpmDevice {
    fn is_given(&self) -> bool {
        self.device.is_some()
    }

    pub(crate) fn open(&self) -> Result<Box<dyn ukikit_creds::tpm::Transport>> {
        let device = self
            .device
            .clone()
            .or_else(|| environment("SYSTEMD_TPM2_DEVICE"));
        let opened = ukikit_creds::tpm::open(device.as_deref().unwrap_or("auto"));
        opened.map_err(|error| with_hint(error, "name the TPM with --tpm2-device=; to seal for another machine's, give --for=IDENTITY"))
    }
}

/// `--name=`: what it says, or else what the file is called, without the suffix of credential files. Empty: no name.
fn name(given: Option<&str>, file: &Path) -> Result<Option<Name>> {
    let name = match given {
        Some(name) => name.to_owned(),
        None if file::is_pipe(file) => return Ok(None),
        None => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.strip_suffix(".cred").unwrap_or(&name).to_owned()
        }
    };
    if name.is_empty() {
        return Ok(None);
    }
    name.parse()
        .map(Some)
        .map_err(|error| with_hint(error, "give --name=, the name under which it will be read"))
}

/// Reads the file of `--for=`.
pub(crate) fn read_identity(path: &Path) -> Result<HostIdentity> {
    let read = HostIdentity::from_json(&file::read(path, IDENTITY_MAX)?);
    read.with_context(|| format!("cannot use `{}`", path.display()))
}

/// Reads a credential file in its encoding, with a hint when it is the other one.
fn read_credential(path: &Path, encoding: Encoding) -> Result<EncryptedCredential> {
    let bytes = file::read(path, 3 * ENCRYPTED_MAX)?;
    EncryptedCredential::parse(&bytes, encoding.into()).map_err(|error| {
        let error = anyhow::Error::new(error)
            .context(format!("{} is not a credential", file::shown_input(path)));
        if encoding == Encoding::Base64 && EncryptedCredential::looks_binary(&bytes) {
            return with_hint(
                error,
                "it looks like the binary form; read it with --encoding=binary",
            );
        }
        error
    })
}

/// Reads a credential file in whichever encoding it is.
fn read_either(path: &Path) -> Result<(EncryptedCredential, Encoding)> {
    let bytes = file::read(path, 3 * ENCRYPTED_MAX)?;
    let encoding = if EncryptedCredential::looks_binary(&bytes) {
        Encoding::Binary
    } else {
        Encoding::Base64
    };
    let parsed = EncryptedCredential::parse(&bytes, encoding.into());
    let credential =
        parsed.with_context(|| format!("{} is not a credential", file::shown_input(path)))?;
    Ok((credential, encoding))
}
