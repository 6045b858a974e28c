//! Who signed the metadata: `SHA256SUMS` names the files, `SHA256SUMS.sig` is its signature in the format of `ssh-keygen -Y sign`.
//!
//! ```text
//! sha256sum meta-data user-data network-config > SHA256SUMS
//! ssh-keygen -Y sign -f key -n ukikit-first-boot SHA256SUMS
//! ```
//!
//! One signature over all files: none can be replaced by that of another host or day, and none taken away. Those of a config drive may stand
//! in the list under the names they have there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};
use ssh_key::{PublicKey, SshSig};

use super::metadata::{Files, known_as};

/// What a signature has to be for.
pub const NAMESPACE: &str = "ukikit-first-boot";
/// The list of files.
pub(super) const SUMS: &str = "SHA256SUMS";
/// Its signature.
pub(super) const SIGNATURE: &str = "SHA256SUMS.sig";

/// Whose signatures count: the `allowed_signers` of ssh-keygen(1).
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners(Vec<(String, PublicKey)>);

impl AllowedSigners {
    /// Reads lines of principals, options and a key. Of the options only `namespaces=` is known.
    ///
    /// # Errors
    ///
    /// The first line that is not such a line, by its number: a signer that cannot be understood is not left out in silence.
    pub fn parse(text: &str) -> Result<Self> {
        let mut signers = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let signer = signer(line).with_context(|| format!("line {}", at + 1))?;
            signers.extend(signer);
        }
        Ok(Self(signers))
    }

    /// The principals that `signature` over `message` is of.
    ///
    /// # Errors
    ///
    /// A signature that is none, is for something else, is of nobody allowed, or does not fit the message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<&str> {
        let signature = SshSig::from_pem(signature)
            .map_err(|_| anyhow!("it is no signature of ssh-keygen -Y sign"))?;
        ensure!(
            signature.namespace() == NAMESPACE,
            "the signature is for {:?}, not for {NAMESPACE:?}",
            signature.namespace()
        );
        let allowed = self
            .0
            .iter()
            .find(|(_, key)| key.key_data() == signature.public_key());
        let (who, key) = allowed.context("the signature is by nobody who is allowed to sign")?;
        let verdict = key.verify(NAMESPACE, message, &signature);
        verdict.map_err(|_| {
            anyhow!("the signature by {who} does not fit: the list of files was changed")
        })?;
        Ok(who)
    }
}

/// A line; none when its key is for other namespaces.
fn signer(line: &str) -> Result<Option<(String, PublicKey)>> {
    let mut words = line.splitn(2, char::is_whitespace);
    let (who, rest) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default().trim_start(),
    );
    let key = |text: &str| text.parse::<PublicKey>();
    if let Ok(key) = key(rest) {
        return Ok(Some((who.to_owned(), key)));
    }
    let (option, rest) = rest
        .split_once(char::is_whitespace)
        .context("it has no key")?;
    let namespaces = option
        .strip_prefix("namespaces=\"")
        .and_then(|list| list.strip_suffix('"'));
    let Some(namespaces) = namespaces else {
        bail!("it is no key of type ed25519 or ecdsa, nor the option namespaces=\"…\"");
    };
    let key =
        key(rest.trim_start()).map_err(|_| anyhow!("its key is none of type ed25519 or ecdsa"))?;
    let ours = namespaces.split(',').any(|name| name == NAMESPACE);
    Ok(ours.then(|| (who.to_owned(), key)))
}

/// Who signed these files, all of them; `None` when nobody did.
///
/// # Errors
///
/// A signature that does not hold, a file that is not in the list or differs from it, one of the list that is not there.
pub fn signed_by(files: &Files, signers: &AllowedSigners) -> Result<Option<String>> {
    let (sums, signature) = match (files.get(SUMS), files.get(SIGNATURE)) {
        (None, None) => return Ok(None),
        (Some(sums), Some(signature)) => (sums, signature),
        (Some(_), None) => return Ok(None),
        (None, Some(_)) => bail!("there is a {SIGNATURE} and no {SUMS}"),
    };
    let who = signers
        .verify(sums, signature)
        .context(SIGNATURE)?
        .to_owned();
    let listed = listed(sums).context(SUMS)?;
    for (name, content) in files {
        if name == SUMS || name == SIGNATURE {
            continue;
        }
        let sum = listed.get(name.as_str());
        let sum = sum.with_context(|| format!("{name} is not in {SUMS}, so it is not signed"))?;
        ensure!(
            *sum == hex::encode(Sha256::digest(content)),
            "{name} differs from {SUMS}"
        );
    }
    let mut missing = listed.keys().filter(|name| !files.contains_key(**name));
    if let Some(name) = missing.next() {
        bail!("{name} is in {SUMS} and is not there");
    }
    Ok(Some(who))
}

/// The sums of the files of metadata by name, as sha256sum(1) writes them.
fn listed(sums: &[u8]) -> Result<BTreeMap<&str, String>> {
    let text = str::from_utf8(sums).context("it is no text")?;
    let line = |line: &'_ str| -> Option<(usize, String)> {
        let (sum, name) = line.split_once(' ')?;
        let name = name.strip_prefix([' ', '*'])?;
        Some((line.len() - name.len(), sum.to_ascii_lowercase()))
    };
    let mut listed = BTreeMap::new();
    for (at, text) in text.lines().enumerate() {
        let (start, sum) =
            line(text).with_context(|| format!("line {} is none of sha256sum", at + 1))?;
        if let Some(name) = known_as(text.get(start..).unwrap_or_default()) {
            listed.insert(name, sum);
        }
    }
    Ok(listed)
}
