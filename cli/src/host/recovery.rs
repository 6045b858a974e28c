//! `[recovery]`: what lets an administrator in when the boot fails.
//!
//! ```text
//! credentials       the hash sealed to the TPM, a drop-in for each unit that asks      when the merge failed
//! tree of a signed  usr/lib/credstore/recovery.hashed-password.root and drop-ins       when the TPM opens nothing
//! addon or image
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use ukikit_creds::Secret;

use super::HostFile;
use super::source::{Part, Shape, Source, Sources};

/// What lets an administrator in when the boot fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Recovery {
    /// The hash of root's password, as crypt(5) has it: `mkpasswd --method=yescrypt` makes one. The emergency shell asks for it.
    pub password_hash: Option<Source>,
    /// Whether PCR 11 is extended before the shell asks: what is bound to a signed PCR 11 policy stays closed in it. The initrd has to
    /// have systemd-pcrextend, or no shell opens.
    pub measure: bool,
    /// Who may log in as root over SSH, as lines of `authorized_keys`: in the initrd with `ssh-host-key`, and on the host.
    pub ssh_keys: Option<Source>,
    /// The private key by which sshd of the initrd is known; not that of the host. It takes the network.
    pub ssh_host_key: Option<Source>,
    /// Whether the extension with tools for the shell is wanted.
    pub tools: bool,
}

/// The name under which systemd-sysusers knows it too.
pub(crate) const PASSWORD: &str = "passwd.hashed-password.root";

/// The units that show the password prompt.
pub(crate) const SHELLS: [&str; 2] = ["emergency.service", "rescue.service"];

/// The hash of the tree, which the signature of an addon or image makes authentic. A name of its own: the host's own hash is
/// written after it, where the TPM opens that.
const PLAIN_PASSWORD: &str = "recovery.hashed-password.root";

/// Sorts before the drop-in of the credential.
const PLAIN_DROP_IN: &str = "50-ukikit-recovery.conf";

/// Gives root the password before sulogin asks. The initrd has root locked, and no systemd-sysusers that would do it. Only
/// what a shell has built in touches the hash; without the credential root stays locked.
const UNLOCK: &str = r#"ExecStartPre=-/bin/sh -c 'umask 077; read -r hash <"$$CREDENTIALS_DIRECTORY/PASSWORD" || [ -n "$$hash" ] || exit 0; while IFS= read -r line; do case $$line in root:*) rest=$${line#root:*:}; line=root:$$hash:$$rest;; esac; echo "$$line"; done </etc/shadow >/run/ukikit-shadow && cat /run/ukikit-shadow >/etc/shadow; rm -f /run/ukikit-shadow'"#;

/// No phase of a boot has this word, so no signature is for the PCR that it leaves.
const MEASURE: &str =
    "ExecStartPre=/usr/lib/systemd/systemd-pcrextend --graceful ukikit-recovery\n";

/// A file of the tree for an addon or an image.
#[derive(Debug)]
#[non_exhaustive]
pub struct RecoveryFile {
    /// Its path below the root of the initrd.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// What stands in it.
    pub content: Secret,
}

impl Recovery {
    /// The drop-in for the units that ask, by which they have the hash of credential `password`.
    fn drop_in_of(&self, password: &str) -> String {
        let unlock = UNLOCK.replace("PASSWORD", password);
        let measure = if self.measure { MEASURE } else { "" };
        format!("[Service]\nImportCredential={password}\n{measure}{unlock}\n")
    }

    /// The one of the sealed hash.
    pub(crate) fn drop_in(&self) -> String {
        self.drop_in_of(PASSWORD)
    }
}

impl HostFile {
    /// What opens a shell though the TPM opens nothing: files that a signed addon, or a signed extension, brings into the initrd.
    ///
    /// # Errors
    ///
    /// A host file without a password hash, a value that cannot be read.
    pub fn recovery_files(&self, sources: &Sources<'_>) -> Result<Vec<RecoveryFile>> {
        let recovery = self.recovery.clone().unwrap_or_default();
        let hash = recovery
            .password_hash
            .clone()
            .context("[recovery] has no `password-hash`, which is what opens the shell")?;
        let hash = sources.read(&[Part::Read(hash, Shape::Line), Part::Text("\n".to_owned())]);
        let drop_in = recovery.drop_in_of(PLAIN_PASSWORD);
        let mut files = vec![RecoveryFile {
            path: format!("usr/lib/credstore/{PLAIN_PASSWORD}").into(),
            mode: 0o600,
            content: hash.context("[recovery] password-hash")?,
        }];
        files.extend(SHELLS.map(|unit| RecoveryFile {
            path: format!("usr/lib/systemd/system/{unit}.d/{PLAIN_DROP_IN}").into(),
            mode: 0o644,
            content: Secret::copied_from(drop_in.as_bytes()),
        }));
        Ok(files)
    }
}
