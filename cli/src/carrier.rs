//! The carrier: a signed extension that brings one host its credentials, so that they are authentic and not only secret.
//!
//! ```text
//! usr/lib/credstore.encrypted/NAME   the credential, Base64
//! usr/lib/ukikit/carrier.json        whose they are, which generation, until when
//! ```
//!
//! systemd reads the first as it reads any credential store and knows nothing of the second; we do, and refuse a carrier of
//! another host and one that has expired.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use ukikit_creds::catalog::WellKnown;
use ukikit_creds::{EncryptedCredential, HostIdentity, LINE, Name, SealedTo, Timestamp};
use ukikit_sysext::{Entry, Kind, Tree};

/// Where the manifest is.
const MANIFEST: &str = "usr/lib/ukikit/carrier.json";
const STORE: &str = "usr/lib/credstore.encrypted";
const SCHEMA: u32 = 1;
/// In bytes, of the manifest: thousands of names.
const MANIFEST_MAX: usize = 1 << 20;

/// What a carrier says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Carrier {
    schema: u32,
    /// TPM name of its host's storage root key, hexadecimal.
    storage_root_key: String,
    /// Which of the host's carriers it is: each new one has a higher number.
    pub generation: u64,
    /// The last second, since 1970, at which it is to be taken.
    pub not_after: u64,
    /// What it brings, sorted.
    pub credentials: Vec<String>,
}

impl Carrier {
    /// The carrier of these credentials, and its tree.
    ///
    /// # Errors
    ///
    /// An identity without a storage root key; a credential that is sealed to another one, that takes the host secret, or
    /// whose reader looks before an extension is merged.
    pub fn build(
        host: &HostIdentity,
        generation: u64,
        not_after: Timestamp,
        credentials: &BTreeMap<Name, EncryptedCredential>,
    ) -> Result<(Self, Tree)> {
        let storage_root_key = storage_root_key(host)?;
        let mut tree = Tree::new();
        for directory in ["usr", "usr/lib", STORE, "usr/lib/ukikit"] {
            tree.insert(directory, Entry::directory())?;
        }
        for (name, credential) in credentials {
            check_credential(name, credential, &storage_root_key)
                .with_context(|| format!("cannot carry {name}"))?;
            tree.insert(
                format!("{STORE}/{name}"),
                Entry::file(credential.to_text(LINE)),
            )?;
        }
        let carrier = Self {
            schema: SCHEMA,
            storage_root_key,
            generation,
            not_after: not_after.as_micros() / 1_000_000,
            credentials: credentials.keys().map(Name::to_string).collect(),
        };
        let manifest = serde_json::to_string_pretty(&carrier)? + "\n";
        tree.insert(MANIFEST, Entry::file(manifest))?;
        Ok((carrier, tree))
    }

    /// Reads the manifest in the tree of an image; `None` when it has none and so is no carrier.
    ///
    /// # Errors
    ///
    /// When what lies there is not a manifest.
    pub fn find(tree: &Tree) -> Result<Option<Self>> {
        let Some(entry) = tree.get(MANIFEST) else {
            return Ok(None);
        };
        let Kind::File(content) = &entry.kind else {
            bail!("/{MANIFEST} is not a file");
        };
        let text = content.read(MANIFEST_MAX)?;
        let carrier: Self =
            serde_json::from_slice(&text).with_context(|| format!("cannot use /{MANIFEST}"))?;
        ensure!(
            carrier.schema == SCHEMA,
            "/{MANIFEST} has schema {}, this version reads {SCHEMA}",
            carrier.schema
        );
        Ok(Some(carrier))
    }

    /// Checks that it is for this host.
    ///
    /// # Errors
    ///
    /// The storage root key of another host, or `host` has none.
    pub fn check_host(&self, host: &HostIdentity) -> Result<()> {
        let own = storage_root_key(host)?;
        let named = &self.storage_root_key;
        ensure!(
            own == *named,
            "it is the carrier of another host, whose storage root key is {named}"
        );
        Ok(())
    }

    /// Checks that it is still good.
    ///
    /// # Errors
    ///
    /// An expiry before `now`.
    pub fn check_expiry(&self, now: Timestamp) -> Result<()> {
        let end = self.not_after;
        ensure!(now.as_micros() / 1_000_000 <= end, "it expired at @{end}");
        Ok(())
    }

    /// Checks that it is none of the host's earlier ones.
    ///
    /// # Errors
    ///
    /// A generation below `at_least`.
    pub fn check_generation(&self, at_least: u64) -> Result<()> {
        let generation = self.generation;
        ensure!(
            generation >= at_least,
            "it is generation {generation}, and {at_least} or later is wanted"
        );
        Ok(())
    }

    /// Where the manifest is, as a path in the merged tree.
    pub fn place() -> String {
        format!("/{MANIFEST}")
    }
}

fn storage_root_key(host: &HostIdentity) -> Result<String> {
    let key = host.storage_root_key.as_ref();
    let key = key.context("the identity has no storage root key, which a carrier names")?;
    Ok(hex::encode(key.public.name()))
}

fn check_credential(
    name: &Name,
    credential: &EncryptedCredential,
    storage_root_key: &str,
) -> Result<()> {
    let early = WellKnown::find(name).is_some_and(|entry| entry.reader.is_early());
    ensure!(!early, "it is read before any extension is merged");
    ensure!(
        !credential.kind().host,
        "it takes the host secret, which the initrd has not"
    );
    if let Some(SealedTo::Pinned(key)) = credential.sealed()?.map(|sealed| sealed.parent) {
        let sealed_to = hex::encode(key.public.name());
        ensure!(
            sealed_to == storage_root_key,
            "it is sealed to another storage root key, {sealed_to}"
        );
    }
    Ok(())
}
