//! `ukikit trust approve`

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use rsa::pkcs8::DecodePublicKey;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ukikit::trust::policy::{POLICY_ADDON, SIGNATURE_PATH, State, merge, sign, states};
use ukikit_creds::PolicyKey;
use ukikit_esp::{
    AddonImage, AddonTarget, Bank, Boot, Changes, Companion, Esp, Sbat, Start, Target, Uki, UkiPath,
};
use ukikit_signing::{KeySource, PrivateKey};
use ukikit_sysext::{Entry, Kind, Tree, initrd};

use super::SCHEMA;
use crate::command::addon::signing::SecureBoot;
use crate::command::addon::{output, usable};
use crate::command::esp::locked;
use crate::command::ext::signing::private_key;
use crate::file;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// Root directory of the EFI system partition
    #[arg(long, value_name = "DIR")]
    esp: PathBuf,
    /// The UKI at this path on the ESP
    #[arg(long, value_name = "PATH")]
    uki: UkiPath,
    /// Private key of the policy, RSA, PEM; asked for its passphrase if it has one
    #[arg(long, value_name = "FILE")]
    private_key: PathBuf,
    /// File with the passphrase of the private key
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Its public key, PEM: the one that credentials name by --tpm2-public-key=
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// Approve the extensions that lie beside the UKI now, and no others: PCR 13 counts too, so that credentials need
    /// --tpm2-public-key-pcrs=11+13
    #[arg(long)]
    extensions: bool,
    /// Keep the approvals in the addon that is there
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    secure_boot: SecureBoot,
    /// Write the addon to this file and leave the ESP as it is
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the signatures alone to this file, as systemd-measure does, and leave the ESP as it is
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    signature: Option<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How to print the approved states
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

/// Of keys and files with signatures.
const TEXT_MAX: usize = 4 << 20;

impl Approve {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let key = private_key(&self.private_key, self.passphrase_file.as_deref())?;
        let public = self.public_key(&key)?;
        let mut esp = Esp::at(&self.esp)?;
        if !self.dry_run {
            esp = locked(esp, out)?;
        }
        let path = esp.uki(&self.uki)?;
        let bytes = esp.read_uki(&self.uki)?;
        let uki = usable(&path, Uki::parse(&bytes))?;
        let boot = Boot::new(
            Some(&uki),
            &esp.boot_files(&self.uki, &[])?,
            &Start::default(),
        )?;
        let bank = Bank::Sha256;
        let states = states(&boot, bank, self.extensions);

        let mut signatures = vendors(&uki)?;
        if self.keep {
            let there = there(&boot)?;
            merge(&mut signatures, &there)?;
        }
        merge(&mut signatures, &sign(&states, bank, &key, &public)?)?;
        let text = serde_json::to_string(&signatures)? + "\n";

        let changes = self.deliver(&esp, &uki, &text, out)?;
        let approved = Approved {
            schema: SCHEMA,
            uki: self.uki.as_str(),
            applied: !self.dry_run,
            key: public.fingerprint(),
            bank: bank.to_string(),
            states: states.iter().map(shown).collect(),
            changes: changes.as_ref(),
        };
        out.show(&approved, self.json)
    }

    /// The key that credentials name, which has to be that of the private one.
    fn public_key(&self, key: &PrivateKey) -> Result<PolicyKey> {
        let pem = file::read(&self.public_key, TEXT_MAX)?;
        let cannot = || format!("cannot use `{}`", self.public_key.display());
        let public = PolicyKey::from_pem(&pem).with_context(cannot)?;
        let text = str::from_utf8(&pem).with_context(cannot)?;
        let rsa = RsaPublicKey::from_public_key_pem(text).with_context(cannot)?;
        let digest = Sha256::digest(b"ukikit");
        let signature = key.sign_digest(ukikit_signing::Hash::Sha256, &digest)?;
        let padding = Pkcs1v15Sign::new::<Sha256>();
        if rsa.verify(padding, &digest, &signature).is_err() {
            let (private, public) = (self.private_key.display(), self.public_key.display());
            bail!("`{private}` and `{public}` do not belong together");
        }
        Ok(public)
    }

    /// Writes or places what was made; nothing with `--dry-run`.
    fn deliver(
        &self,
        esp: &Esp,
        uki: &Uki<'_>,
        text: &str,
        out: &mut Output,
    ) -> Result<Option<Changes>> {
        if let Some(path) = &self.signature {
            if !self.dry_run {
                file::write(path, text.as_bytes(), out)?;
            }
            return Ok(None);
        }
        let bytes = self.secure_boot.sign(addon(uki, text)?, out)?;
        if let Some(path) = &self.output {
            output::name_of(path)?;
            if !self.dry_run {
                output::write(path, &bytes)?;
            }
            return Ok(None);
        }
        let name = format!("{POLICY_ADDON}.addon.efi");
        let target = Target::Uki(self.uki.clone());
        let changes = esp.place(&target, vec![Companion::new(name.parse()?, bytes)?])?;
        if !self.dry_run {
            changes.apply(esp)?;
        }
        Ok(Some(changes))
    }
}

fn addon(uki: &Uki<'_>, text: &str) -> Result<Vec<u8>> {
    let architecture = uki
        .architecture()
        .context("the UKI does not tell its architecture")?;
    let mut addon = AddonImage::new(architecture, Sbat::new(POLICY_ADDON, 1)?);
    addon.uname = AddonTarget::of(uki).uname;
    let mut tree = Tree::new();
    tree.insert(SIGNATURE_PATH, Entry::file(text))?;
    addon.initrd = Some(initrd::write(&tree, initrd::Packing::None)?);
    Ok(addon.to_bytes()?)
}

/// The signatures in the UKI, which ours would hide.
fn vendors(uki: &Uki<'_>) -> Result<Value> {
    let Some(section) = uki.section(".pcrsig") else {
        return Ok(json!({}));
    };
    let text = section.split(|&byte| byte == 0).next().unwrap_or_default();
    serde_json::from_slice(text).context("cannot read the .pcrsig section of the UKI")
}

/// The signatures in the addon that lies there.
fn there(boot: &Boot<'_>) -> Result<Value> {
    let name = format!("/{POLICY_ADDON}.addon.efi");
    let own = boot
        .addons
        .iter()
        .rfind(|addon| addon.path.ends_with(&name));
    let own = own.and_then(|addon| addon.initrd.as_deref());
    let own = own.ok_or_else(|| {
        anyhow!("there is no {POLICY_ADDON}.addon.efi whose approvals could be kept")
    })?;
    let tree = initrd::read(own)?;
    let Some(Kind::File(content)) = tree.get(SIGNATURE_PATH).map(|entry| &entry.kind) else {
        bail!("`{POLICY_ADDON}.addon.efi` has no /{SIGNATURE_PATH}");
    };
    Ok(serde_json::from_slice(&content.read(TEXT_MAX)?)?)
}

fn shown(state: &State) -> std::collections::BTreeMap<u32, String> {
    state
        .iter()
        .map(|(pcr, value)| (*pcr, value.to_string()))
        .collect()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Approved<'a> {
    schema: u32,
    uki: &'a str,
    applied: bool,
    /// `pkfp` of the signatures.
    key: String,
    bank: String,
    /// Values by PCR: in front of enter-initrd, then after each phase.
    states: Vec<std::collections::BTreeMap<u32, String>>,
    #[serde(flatten)]
    changes: Option<&'a Changes>,
}

impl fmt::Display for Approved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for state in &self.states {
            let values = state
                .iter()
                .map(|(pcr, value)| format!("{pcr}:{}={value}", self.bank));
            writeln!(f, "approves {}", values.collect::<Vec<_>>().join(" "))?;
        }
        self.changes.map_or(Ok(()), |changes| changes.fmt(f))
    }
}
