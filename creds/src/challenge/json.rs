//! Challenges and answers as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{Answer, Challenge, Proof, StorageKey, Task};
use crate::endorsement::EndorsementArea;
use crate::error::Error;
use crate::public::{self, Algorithm};
use crate::secret::Secret;

/// Version of both forms; changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;

impl Challenge {
    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// [`Error::Challenge`] with the member and what is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let file: ChallengeFile =
            serde_json::from_slice(json).map_err(|error| member("", &error.to_string()))?;
        check_schema(file.schema)?;
        let at = "endorsementKey";
        let area = EndorsementArea::from_sized(&base64(at, &file.endorsement_key)?)
            .map_err(|error| member(at, &error.to_string()))?;
        let tasks = file.keys.iter().map(TaskFile::read);
        Ok(Self {
            endorsement_key: area,
            tasks: tasks.collect::<Result<_, _>>()?,
        })
    }

    /// The JSON form, indented, with a newline at the end.
    pub fn to_json(&self) -> String {
        json(&ChallengeFile {
            schema: SCHEMA,
            endorsement_key: STANDARD.encode(self.endorsement_key.to_sized()),
            keys: self.tasks.iter().map(TaskFile::new).collect(),
        })
    }
}

impl Answer {
    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// [`Error::Challenge`] with the member and what is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let file: AnswerFile =
            serde_json::from_slice(json).map_err(|error| member("", &error.to_string()))?;
        check_schema(file.schema)?;
        let proofs = file.secrets.iter().map(ProofFile::read);
        Ok(Self {
            endorsement_key: digits("endorsementKey", &file.endorsement_key)?,
            proofs: proofs.collect::<Result<_, _>>()?,
        })
    }

    /// The JSON form, indented, with a newline at the end. It holds the secrets.
    pub fn to_json(&self) -> Zeroizing<String> {
        Zeroizing::new(json(&AnswerFile {
            schema: SCHEMA,
            endorsement_key: hex::encode(&self.endorsement_key),
            secrets: self.proofs.iter().map(ProofFile::new).collect(),
        }))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChallengeFile {
    schema: u32,
    /// TPM2B_PUBLIC, Base64.
    endorsement_key: String,
    keys: Vec<TaskFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TaskFile {
    /// Member of the identity.
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<Algorithm>,
    /// TPM name, hexadecimal.
    name: String,
    /// Content of TPM2B_ID_OBJECT, Base64.
    credential: String,
    /// Content of TPM2B_ENCRYPTED_SECRET, Base64.
    seed: String,
}

impl TaskFile {
    fn new(task: &Task) -> Self {
        let (handle, algorithm) = match task.key {
            StorageKey::StorageRootKey(handle) => (Some(format!("{handle:#010x}")), None),
            StorageKey::LegacyParent(algorithm) => (None, Some(algorithm)),
        };
        Self {
            key: task.key.to_string(),
            handle,
            algorithm,
            name: hex::encode(&task.name),
            credential: STANDARD.encode(&task.credential),
            seed: STANDARD.encode(&task.seed),
        }
    }

    fn read(&self) -> Result<Task, Error> {
        let handle = self.handle.as_deref();
        let key = match (self.key.as_str(), handle, self.algorithm) {
            ("storageRootKey", Some(handle), None) => {
                StorageKey::StorageRootKey(public::persistent_handle(handle).ok_or_else(|| {
                    member(
                        "keys.handle",
                        "it is not a persistent handle such as 0x81000001",
                    )
                })?)
            }
            ("legacyParent", None, Some(algorithm)) => StorageKey::LegacyParent(algorithm),
            _ => {
                let reason = "it is neither a storageRootKey with a handle nor a legacyParent with an algorithm";
                return Err(member("keys.key", reason));
            }
        };
        Ok(Task {
            key,
            name: digits("keys.name", &self.name)?,
            credential: base64("keys.credential", &self.credential)?,
            seed: base64("keys.seed", &self.seed)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnswerFile {
    schema: u32,
    /// TPM name, hexadecimal.
    endorsement_key: String,
    secrets: Vec<ProofFile>,
}

#[derive(Serialize, Deserialize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProofFile {
    /// TPM name of the storage key, hexadecimal.
    name: String,
    /// Base64.
    secret: String,
}

impl ProofFile {
    fn new(proof: &Proof) -> Self {
        Self {
            name: hex::encode(&proof.name),
            secret: STANDARD.encode(proof.secret.expose()),
        }
    }

    fn read(&self) -> Result<Proof, Error> {
        Ok(Proof {
            name: digits("secrets.name", &self.name)?,
            secret: Secret::new(base64("secrets.secret", &self.secret)?),
        })
    }
}

/// A struct of texts and numbers always has a JSON form.
fn json(file: &impl Serialize) -> String {
    serde_json::to_string_pretty(file).unwrap_or_default() + "\n"
}

fn check_schema(found: u32) -> Result<(), Error> {
    if found == SCHEMA {
        return Ok(());
    }
    let reason = format!("it is {found}, this version reads {SCHEMA}");
    Err(member("schema", &reason))
}

/// Longest structure in either file: TPM2B structures have a size of two bytes.
fn base64(at: &str, text: &str) -> Result<Vec<u8>, Error> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| member(at, "it is not Base64"))?;
    match u16::try_from(bytes.len()) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(member(at, "it is longer than a TPM structure")),
    }
}

fn digits(at: &str, text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(text).map_err(|_| member(at, "it is not hexadecimal"))
}

fn member(member: &str, reason: &str) -> Error {
    Error::Challenge {
        member: member.to_owned(),
        reason: reason.to_owned(),
    }
}
