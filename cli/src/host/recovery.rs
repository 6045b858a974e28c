//! `[recovery]`: what lets an administrator in when the boot fails. Credentials alone do it, so that it works when the merge
//! of the extensions is what failed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::source::Source;

/// What lets an administrator in when the boot fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Recovery {
    /// The hash of root's password, as crypt(5) has it: `mkpasswd --method=yescrypt` makes one. The emergency shell asks for it.
    pub password_hash: Option<Source>,
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

/// Gives root the password before sulogin asks. The initrd has root locked, and no systemd-sysusers that would do it. Only
/// what a shell has built in touches the hash; without the credential root stays locked.
pub(crate) const DROP_IN: &str = r#"[Service]
ImportCredential=passwd.hashed-password.root
ExecStartPre=-/bin/sh -c 'umask 077; read -r hash <"$$CREDENTIALS_DIRECTORY/passwd.hashed-password.root" || [ -n "$$hash" ] || exit 0; while IFS= read -r line; do case $$line in root:*) rest=$${line#root:*:}; line=root:$$hash:$$rest;; esac; echo "$$line"; done </etc/shadow >/run/ukikit-shadow && cat /run/ukikit-shadow >/etc/shadow; rm -f /run/ukikit-shadow'
"#;
