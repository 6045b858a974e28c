//! `Challenge`: proof that storage keys live in the TPM that owns an endorsement key.
//!
//! Each key gets a random secret, encrypted to the endorsement key and bound to the storage key's name, as
//! TPM2_MakeCredential does it (TPM 2.0 Library, part 1, section 24); here it is arithmetic on public keys.
//! TPM2_ActivateCredential returns the secret only where both keys are loaded in one TPM.

mod credential;
mod json;

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::endorsement::EndorsementArea;
use crate::error::Error;
use crate::identity::HostIdentity;
use crate::public::{Algorithm, PublicArea};
use crate::secret::Secret;
use credential::make_credential;

/// Bytes in a secret: no more than a digest of the endorsement key's hash.
const SECRET_SIZE: usize = 32;

/// Which storage key of a host is meant, and how its TPM finds it. `Display` is its member in an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageKey {
    /// The storage root key, at this persistent handle.
    StorageRootKey(u32),
    /// The legacy parent of this kind, made anew.
    LegacyParent(Algorithm),
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StorageRootKey(_) => "storageRootKey",
            Self::LegacyParent(_) => "legacyParent",
        })
    }
}

/// What a host's TPM must answer to prove that the keys of its identity are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub(crate) endorsement_key: EndorsementArea,
    pub(crate) tasks: Vec<Task>,
}

/// The challenge for one storage key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) key: StorageKey,
    /// The storage key's TPM name.
    pub(crate) name: Vec<u8>,
    /// Content of TPM2B_ID_OBJECT.
    pub(crate) credential: Vec<u8>,
    /// Content of TPM2B_ENCRYPTED_SECRET.
    pub(crate) seed: Vec<u8>,
}

impl Challenge {
    /// A challenge for every storage key of `identity`, and the answer that only its TPM can give: to be kept secret.
    ///
    /// Takes from `rng`, for each key: the secret (32 bytes), then the ephemeral key or the seed and OAEP's own.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`] when the identity lacks an endorsement key or any storage key, or when a storage key may leave its
    /// TPM or was not made there.
    pub fn new(identity: &HostIdentity, rng: &mut impl CryptoRng) -> Result<(Self, Answer), Error> {
        let endorsement_key = endorsement_area(identity)?.clone();
        let (mut tasks, mut proofs) = (Vec::new(), Vec::new());
        for (key, public) in storage_keys(identity)? {
            let name = public.name();
            let mut secret = Zeroizing::new([0; SECRET_SIZE]);
            rng.fill_bytes(&mut *secret);
            let (credential, seed) = make_credential(&endorsement_key, &name, &*secret, rng)?;
            tasks.push(Task {
                key,
                name: name.clone(),
                credential,
                seed,
            });
            proofs.push(Proof {
                name,
                secret: Secret::copied_from(&*secret),
            });
        }
        let answer = Answer {
            endorsement_key: endorsement_key.name(),
            proofs,
        };
        let challenge = Self {
            endorsement_key,
            tasks,
        };
        Ok((challenge, answer))
    }
}

fn endorsement_area(identity: &HostIdentity) -> Result<&EndorsementArea, Error> {
    let key = identity.endorsement_key.as_ref();
    key.map(|key| &key.public).ok_or_else(|| Error::Identity {
        member: "endorsementKey".into(),
        reason: "it is missing, and only that key tells one TPM from another".into(),
    })
}

/// The storage keys of an identity, which must be keys that never leave the TPM that made them.
fn storage_keys(identity: &HostIdentity) -> Result<Vec<(StorageKey, &PublicArea)>, Error> {
    let root = identity.storage_root_key.as_ref();
    let root = root.map(|key| (StorageKey::StorageRootKey(key.handle), &key.public));
    let legacy = identity.legacy_parent.as_ref();
    let legacy = legacy.map(|public| (StorageKey::LegacyParent(public.algorithm()), public));
    let keys: Vec<_> = root.into_iter().chain(legacy).collect();
    let refuse = |member: String, reason: &str| Error::Identity {
        member,
        reason: reason.to_owned(),
    };
    if keys.is_empty() {
        let reason = "it is missing, and so is `legacyParent`: there is no key to prove";
        return Err(refuse("storageRootKey".into(), reason));
    }
    match keys.iter().find(|(_, public)| !public.is_born_in_tpm()) {
        None => Ok(keys),
        Some((key, _)) => Err(refuse(
            format!("{key}.public"),
            "its attributes do not say that a TPM made it and keeps it (fixedTPM, fixedParent, sensitiveDataOrigin)",
        )),
    }
}

/// What a TPM recovered from a [`Challenge`], or what it should: the two are compared by [`Answer::check`].
#[derive(Debug)]
pub struct Answer {
    /// Name of the endorsement key.
    pub(crate) endorsement_key: Vec<u8>,
    pub(crate) proofs: Vec<Proof>,
}

/// The secret for one storage key.
#[derive(Debug)]
pub(crate) struct Proof {
    /// The storage key's TPM name.
    pub(crate) name: Vec<u8>,
    pub(crate) secret: Secret,
}

impl Answer {
    /// Checks the `given` answer against this one, which was made together with the challenge for `identity`. Returns the keys
    /// that are proven: all storage keys of the identity.
    ///
    /// # Errors
    ///
    /// [`Error::NotProven`] for the first key whose secret is missing or another one, or when this answer belongs to another
    /// identity. Secrets are compared in constant time.
    pub fn check(&self, given: &Self, identity: &HostIdentity) -> Result<Vec<StorageKey>, Error> {
        let keys = storage_keys(identity)?;
        if endorsement_area(identity)?.name() != self.endorsement_key {
            return Err(Error::NotProven {
                key: "endorsementKey".into(),
                reason: "the secrets kept are those of a challenge for another endorsement key",
            });
        }
        for (key, public) in &keys {
            let not_proven = |reason| Error::NotProven {
                key: key.to_string(),
                reason,
            };
            let expected = self
                .secret_for(public)
                .ok_or_else(|| not_proven("the challenge was not made for this key"))?;
            let given = given
                .secret_for(public)
                .ok_or_else(|| not_proven("the answer has no secret for it"))?;
            if !bool::from(expected.expose().ct_eq(given.expose())) {
                return Err(not_proven("the answer's secret is not the one sent"));
            }
        }
        Ok(keys.into_iter().map(|(key, _)| key).collect())
    }

    fn secret_for(&self, public: &PublicArea) -> Option<&Secret> {
        let name = public.name();
        let proof = self.proofs.iter().find(|proof| proof.name == name);
        proof.map(|proof| &proof.secret)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rand_core::UnwrapErr;

    use super::*;
    use crate::endorsement::EndorsementKey;
    use crate::seal::{STORAGE_ROOT_HANDLE, StorageRootKey};

    fn vector(path: &str) -> Vec<u8> {
        let path = format!("{}/../tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    fn area(kind: &str) -> EndorsementArea {
        EndorsementArea::from_sized(&vector(&format!("creds/tpm/{kind}.endorsement.pub"))).unwrap()
    }

    fn identity() -> HostIdentity {
        let public =
            |file: &str| PublicArea::from_sized(&vector(&format!("creds/tpm/{file}"))).unwrap();
        HostIdentity {
            storage_root_key: Some(StorageRootKey {
                handle: STORAGE_ROOT_HANDLE,
                public: public("a.srk.pub"),
            }),
            legacy_parent: Some(public("a.legacy-ecc.pub")),
            endorsement_key: Some(EndorsementKey::new(area("p384"), None)),
            ..HostIdentity::default()
        }
    }

    fn challenge() -> (Challenge, Answer) {
        Challenge::new(&identity(), &mut UnwrapErr(getrandom::SysRng)).unwrap()
    }

    #[test]
    fn out_and_back() {
        let (challenge, answer) = challenge();
        let again = Challenge::from_json(challenge.to_json().as_bytes()).unwrap();
        assert_eq!(again, challenge);
        let again = Answer::from_json(answer.to_json().as_bytes()).unwrap();
        assert_eq!(
            answer.check(&again, &identity()).unwrap(),
            [
                StorageKey::StorageRootKey(STORAGE_ROOT_HANDLE),
                StorageKey::LegacyParent(Algorithm::Ecc)
            ]
        );
    }

    #[test]
    fn an_answer_that_lacks_something_proves_nothing() {
        let (_, expected) = challenge();
        let given = |change: fn(&mut Answer)| {
            let mut answer = Answer::from_json(expected.to_json().as_bytes()).unwrap();
            change(&mut answer);
            let error = expected.check(&answer, &identity()).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            given(|answer| answer.proofs[0].secret = Secret::new(vec![0; 32])),
            "the `storageRootKey` of the identity is not proven: the answer's secret is not the one sent"
        );
        assert_eq!(
            given(|answer| answer.proofs[0].secret = Secret::new(Vec::new())),
            "the `storageRootKey` of the identity is not proven: the answer's secret is not the one sent"
        );
        assert_eq!(
            given(|answer| drop(answer.proofs.pop())),
            "the `legacyParent` of the identity is not proven: the answer has no secret for it"
        );
        let mut other = identity();
        other.endorsement_key = Some(EndorsementKey::new(area("p256"), None));
        assert_eq!(
            expected.check(&expected, &other).unwrap_err().to_string(),
            "the `endorsementKey` of the identity is not proven: the secrets kept are those of a challenge for another endorsement key"
        );
    }

    #[test]
    fn a_key_that_may_leave_its_tpm_is_not_challenged() {
        for bit in [0x02, 0x10, 0x20] {
            let mut sized = vector("creds/tpm/a.srk.pub");
            sized[9] &= !bit;
            let mut identity = identity();
            identity.storage_root_key.as_mut().unwrap().public =
                PublicArea::from_sized(&sized).unwrap();
            let made = Challenge::new(&identity, &mut UnwrapErr(getrandom::SysRng));
            assert_eq!(
                made.unwrap_err().to_string(),
                "host identity, `storageRootKey.public`: its attributes do not say that a TPM made it and keeps it (fixedTPM, fixedParent, sensitiveDataOrigin)"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_challenge_is_said() {
        let json = challenge().0.to_json();
        let area = STANDARD.encode(area("p384").to_sized());
        for (json, wanted) in [
            (
                json.replace("\"schema\": 1", "\"schema\": 2"),
                "`schema`: it is 2, this version reads 1",
            ),
            (
                json.replace(&area, "AAA"),
                "`endorsementKey`: it is not Base64",
            ),
            (
                json.replace("0x81000001", "0x40000001"),
                "`keys.handle`: it is not a persistent handle such as 0x81000001",
            ),
            (
                json.replace("legacyParent", "storageRootKey"),
                "`keys.key`: it is neither a storageRootKey with a handle nor a legacyParent with an algorithm",
            ),
            (
                json.replace("\"000b", "\"x00b"),
                "`keys.name`: it is not hexadecimal",
            ),
        ] {
            let error = Challenge::from_json(json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("challenge or answer, {wanted}"));
        }
    }
}
