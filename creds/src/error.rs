//! What can go wrong, each as one sentence that names the thing and the place.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Bytes that are not what their format says, with the place in the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at byte {offset}: {what}")]
pub struct FormatError {
    /// Distance from the start of the input, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub what: String,
}

impl FormatError {
    pub(crate) fn new(offset: usize, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { offset, what }
    }
}

/// Why a credential could not be made or opened.
///
/// A wrong key and damaged bytes are the same variant on purpose: nobody who tries keys learns which half was wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a credential.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// AES-GCM refused: damaged, or encrypted under another key.
    #[error("cannot decrypt: the file is damaged or was encrypted with another key")]
    Decrypt,
    /// The plaintext is over 1 MiB, the limit of every systemd.
    #[error("the plaintext has {size} bytes, a credential holds at most {limit}")]
    TooLarge {
        /// Size of the plaintext in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not a credential name (systemd: `credential_name_valid`).
    #[error("{name:?} is not a credential name: {reason}")]
    Name {
        /// The name, lossily decoded.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The name inside is not the one asked for.
    #[error("the credential is named {embedded:?}, not {wanted:?}")]
    NameMismatch {
        /// Name inside the credential.
        embedded: String,
        /// Name the caller expects.
        wanted: String,
    },
    /// The time given is after the credential's last.
    #[error("the credential expired at {not_after}")]
    Expired {
        /// Last moment at which it could be opened.
        not_after: crate::Timestamp,
    },
    /// Made after it expires.
    #[error("the credential's times are not in order: made {made}, valid until {not_after}")]
    TimesOutOfOrder {
        /// When it was made.
        made: crate::Timestamp,
        /// Last moment at which it could be opened.
        not_after: crate::Timestamp,
    },
    /// The credential uses the null key and the caller refuses that.
    #[error(
        "the credential is encrypted with the null key, which is refused here: it protects nothing"
    )]
    NullKeyRefused,
    /// Scoped to a user, opened without one.
    #[error("the credential is scoped to a user, and no user was given")]
    Scoped,
    /// Not scoped, opened for a user.
    #[error("the credential belongs to the system, and a user was given")]
    NotScoped,
    /// No systemd type has this combination of key and scope.
    #[error("a credential scoped to a user needs the host secret; its key is {key}")]
    ScopeWithoutHost {
        /// Key as `--with-key=` spells it.
        key: &'static str,
    },
    /// The type needs the host secret.
    #[error("the credential needs the host secret, and none was given")]
    HostSecretMissing,
    /// The host secret's file cannot be used.
    #[error("cannot use the host secret `{}`: {reason}", path.display())]
    HostSecret {
        /// The file.
        path: PathBuf,
        /// The rule it breaks.
        reason: String,
    },
    /// The host secret was made for another machine ID.
    #[error("the host secret `{}` belongs to another machine: its machine ID hash is {found}, this machine's is {wanted}", path.display())]
    ForeignHostSecret {
        /// The file, left as it is.
        path: PathBuf,
        /// Hash in the file, hexadecimal.
        found: String,
        /// Hash of the machine ID given, hexadecimal.
        wanted: String,
    },
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a machine ID.
    #[error("{0:?} is not a machine ID: 32 hexadecimal digits, not all zero")]
    MachineId(String),
    /// Not a PCR, a list of PCRs or a PCR value.
    #[error("{given:?} names no PCR to bind to: {reason}")]
    Pcr {
        /// What was given.
        given: String,
        /// The rule it breaks.
        reason: String,
    },
    /// A PCR of the policy has no value to bind to.
    #[error("PCR {pcr} has no value in the {bank} bank")]
    PcrValueMissing {
        /// PCR number.
        pcr: u32,
        /// Bank as systemd spells it.
        bank: crate::PcrBank,
    },
    /// Not a file of PCR values.
    #[error("the file of PCR values cannot be used: {0}")]
    PcrValues(String),
    /// Not an RSA public key in PEM.
    #[error("the policy's public key cannot be used: {0}")]
    PolicyKey(String),
    /// A TPM key that cannot be a storage parent.
    #[error("cannot use the TPM's public area: {0}")]
    PublicArea(String),
    /// A TPM key that cannot be an endorsement key.
    #[error("cannot use the TPM's endorsement key: {0}")]
    EndorsementKey(String),
    /// The endorsement hierarchy has a password, so the endorsement key cannot be made or used.
    #[error("the TPM's endorsement hierarchy has a password, which we cannot give")]
    EndorsementLocked,
    /// A challenge, or the answer to one, that contradicts itself or lacks something.
    #[error("challenge or answer{}: {reason}", at(member))]
    Challenge {
        /// Member of the JSON object.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key of the identity is not shown to live in the TPM that owns the endorsement key.
    #[error("the `{key}` of the identity is not proven: {reason}")]
    NotProven {
        /// Member of the identity.
        key: String,
        /// Why not.
        reason: &'static str,
    },
    /// A host identity that contradicts itself or lacks something.
    #[error("host identity{}: {reason}", at(member))]
    Identity {
        /// Member of the JSON object; empty when the file is no such object.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The type needs a TPM.
    #[error("the credential needs a TPM, and none was given")]
    TpmMissing,
    /// The type has a signed policy and no signatures were given.
    #[error("the credential is bound to signed PCR values, and no signature file was given")]
    SignatureMissing,
    /// The PCR signature file is not one.
    #[error("the PCR signature file cannot be used: {0}")]
    SignatureFile(String),
    /// No signature fits the PCR values of now.
    #[error("no signature for the current {bank} values of PCR {pcrs} by key {fingerprint}")]
    SignatureNotFound {
        /// Bank as systemd spells it.
        bank: crate::PcrBank,
        /// PCRs, joined by `+`.
        pcrs: crate::PcrMask,
        /// SHA-256 of the key's PKCS#1 form, hexadecimal.
        fingerprint: String,
    },
    /// The policy computed by the TPM is not the one sealed to.
    #[error("the TPM's PCR values differ from those the credential is bound to ({0})")]
    PolicyMismatch(String),
    /// The sealed key belongs to another TPM.
    #[error("the credential was sealed to another TPM")]
    OtherTpm,
    /// Too many failed authorisations; the TPM answers only after a while.
    #[error(
        "the TPM is in dictionary-attack lockout; wait, or clear the lockout with the lockout authorisation"
    )]
    Lockout,
    /// The owner hierarchy has a password, so the legacy parent cannot be made.
    #[error("the TPM's owner hierarchy has a password, which the un-pinned form cannot give")]
    OwnerLocked,
    /// The storage root key's handle is empty.
    #[error("the TPM holds no key at {handle:#010x}")]
    HandleEmpty {
        /// Persistent handle.
        handle: u32,
    },
    /// The TPM's answer cannot be trusted: the session's HMAC does not fit.
    #[error(
        "the TPM's answer was tampered with on its way, or it does not own the storage key named in the credential"
    )]
    SessionBroken,
    /// The TPM refused a command.
    #[error("the TPM refused {command}: {code}")]
    Tpm {
        /// Command as the TCG names it.
        command: &'static str,
        /// Response code.
        code: crate::tpm::ResponseCode,
    },
    /// The TPM's answer is not well-formed.
    #[error("the TPM's answer to {command} cannot be read: {what}")]
    TpmAnswer {
        /// Command as the TCG names it.
        command: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The TPM could not be reached.
    #[error("cannot talk to the TPM")]
    Transport(#[source] io::Error),
    /// The TPM's device could not be opened.
    #[error("cannot open the TPM `{device}`")]
    OpenDevice {
        /// The device as given.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// Not a `--tpm2-device=` value.
    #[error("{given:?} is not a TPM device: {reason}")]
    Device {
        /// What was given.
        given: String,
        /// The rule it breaks.
        reason: &'static str,
    },
}

/// Where in a JSON object; nowhere when the file is none.
fn at(member: &str) -> String {
    if member.is_empty() {
        String::new()
    } else {
        format!(", `{member}`")
    }
}
