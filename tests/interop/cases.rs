//! The kinds of credential that go back and forth.

use std::fmt;

/// One way to encrypt.
#[derive(Clone)]
pub(crate) struct Case {
    /// The word of `--with-key=`.
    pub(crate) key: &'static str,
    /// Whether the storage root key is recorded in the file; without a TPM always false.
    pub(crate) pinned: bool,
    /// What `--tpm2-pcrs=` is given.
    pub(crate) pcrs: String,
    /// The bank of a policy that names none by its values.
    pub(crate) bank: String,
    /// For user 1001 of the machine, not for the system.
    pub(crate) scoped: bool,
}

impl Case {
    pub(crate) fn new(key: &'static str, pinned: bool) -> Self {
        Self {
            key,
            pinned,
            pcrs: String::new(),
            bank: "sha256".to_owned(),
            scoped: false,
        }
    }

    pub(crate) fn uses_tpm(&self) -> bool {
        self.key.contains("tpm2")
    }

    pub(crate) fn uses_public_key(&self) -> bool {
        self.key.contains("public-key")
    }

    /// Whether the host secret may be needed; the automatic choice takes it where it can.
    pub(crate) fn uses_host(&self) -> bool {
        self.key.contains("host") || self.key == "auto"
    }

    pub(crate) fn may_be_null(&self) -> bool {
        self.key == "null" || self.key == "auto-initrd"
    }

    /// Neither scoped nor bound to PCRs: what is tried on every kind of TPM.
    pub(crate) fn is_plain(&self) -> bool {
        !self.scoped && self.pcrs.is_empty()
    }

    /// What systemd-creds is told. Always the PCRs: the default of 257 is not that of 262.
    pub(crate) fn systemd_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--with-key={}", self.key),
            format!("--tpm2-pcrs={}", self.pcrs),
        ];
        if self.uses_public_key() {
            arguments.extend(
                ["--tpm2-public-key=/io/pk1.pem", "--tpm2-public-key-pcrs=11"].map(str::to_owned),
            );
        }
        arguments
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pinned = if self.pinned { "pinned" } else { "not pinned" };
        let scope = if self.scoped { "user" } else { "system" };
        write!(
            f,
            "{} ({pinned}, PCRs \"{}\", {scope})",
            self.key, self.pcrs
        )
    }
}

/// Why a credential is not opened, in the words of each side.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    OtherTpm,
    PcrValues,
    Signature,
    Expired,
}

impl Reason {
    pub(crate) fn ours(self) -> &'static str {
        match self {
            Self::OtherTpm => "the credential was sealed to another TPM",
            Self::PcrValues => "the TPM's PCR values differ from those the credential is bound to",
            Self::Signature => "no signature for the current ",
            Self::Expired => "the credential expired at @1700000200",
        }
    }

    /// 257 has little more than the number of an error.
    pub(crate) fn of_systemd(self, version: u32) -> &'static str {
        match (self, version) {
            (Self::OtherTpm, 262) => "Key most likely does not belong to this TPM",
            (Self::OtherTpm, _) => "State not recoverable",
            (Self::PcrValues, 262) => "TPM policy does not match current system state",
            (Self::PcrValues, _) => "Operation not permitted",
            (Self::Signature, 262) => "Device not a stream",
            (Self::Signature, _) => "No such device or address",
            (Self::Expired, _) => "time passed, refusing to use",
        }
    }
}

/// Everything we write.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    let without_tpm = ["null", "host"]
        .into_iter()
        .map(|key| Case::new(key, false));
    let with_tpm = [
        "tpm2",
        "host+tpm2",
        "tpm2-with-public-key",
        "host+tpm2-with-public-key",
    ];
    let with_tpm = with_tpm
        .into_iter()
        .flat_map(|key| [true, false].map(|pinned| Case::new(key, pinned)));
    without_tpm.chain(with_tpm).flat_map(variants)
}

/// Every key systemd-creds of this version writes. Only 262 pins.
pub(crate) fn systemd_keys(version: u32) -> impl Iterator<Item = Case> {
    let keys = [
        "null",
        "host",
        "tpm2",
        "host+tpm2",
        "tpm2-with-public-key",
        "host+tpm2-with-public-key",
        "auto",
        "auto-initrd",
    ];
    keys.into_iter()
        .map(move |key| Case::new(key, version >= 262 && key.contains("tpm2")))
        .flat_map(variants)
}

/// A case as it is, bound to a PCR if it has a TPM, and for a user if it has the host secret.
fn variants(plain: Case) -> Vec<Case> {
    let mut variants = vec![plain.clone()];
    if plain.uses_tpm() {
        variants.push(Case {
            pcrs: "7".to_owned(),
            ..plain.clone()
        });
    }
    if plain.uses_host() {
        let scoped: Vec<Case> = variants
            .iter()
            .map(|case| Case {
                scoped: true,
                ..case.clone()
            })
            .collect();
        variants.extend(scoped);
    }
    variants
}
