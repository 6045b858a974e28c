//! `Challenge`: proof that storage keys live in the TPM that owns an endorsement key.
//!
//! Each key gets a random secret, encrypted to the endorsement key and bound to the storage key's name, as
//! TPM2_MakeCredential does it (TPM 2.0 Library, part 1, section 24); here it is arithmetic on public keys.
//!
//! ```text
//! seed       = KDFe(ECDH(ephemeral, endorsement key), "IDENTITY")   or random bytes under RSA-OAEP
//! credential = outer wrapper (seed, name of the storage key, sized secret)
//! ```
//!
//! TPM2_ActivateCredential returns the secret only where both keys are loaded in one TPM.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p256::elliptic_curve::{
    AffinePoint, CurveArithmetic, FieldBytesSize, PublicKey, SecretKey, ecdh,
};
use rand_core::CryptoRng;
use rsa::{Oaep, RsaPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Sha256, Sha384};
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::endorsement::{EndorsementArea, Numbers};
use crate::error::Error;
use crate::identity::HostIdentity;
use crate::kdf::Hash;
use crate::public::{self, Algorithm, PublicArea};
use crate::secret::Secret;
use crate::wrapper::wrap;

/// Version of both JSON forms; changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;
/// Said by TPM2_MakeCredential.
const LABEL: &str = "IDENTITY";
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

/// TPM2_MakeCredential: the contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
fn make_credential(
    key: &EndorsementArea,
    name: &[u8],
    secret: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let hash = key.template().hash();
    let (seed, encrypted) = match key.numbers() {
        Numbers::P256(key) => ecc_seed(key, hash, rng),
        Numbers::P384(key) => ecc_seed(key, hash, rng),
        Numbers::Rsa(key) => rsa_seed(key, hash, rng)?,
    };
    let content = Zeroizing::new(public::sized(secret));
    Ok((wrap(hash, &seed, name, content), encrypted))
}

type Seed = (Zeroizing<Vec<u8>>, Vec<u8>);

fn ecc_seed<C>(key: &PublicKey<C>, hash: Hash, rng: &mut impl CryptoRng) -> Seed
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    let ephemeral = ephemeral_key::<C>(rng);
    let (x, y) = coordinates(&ephemeral.public_key());
    let shared = ecdh::diffie_hellman(ephemeral.to_nonzero_scalar(), key.as_affine());
    let seed = hash.kdf_e(shared.raw_secret_bytes(), LABEL, &x, &coordinates(key).0);
    (seed, [public::sized(&x), public::sized(&y)].concat())
}

/// A key from random bytes; those that are no scalar of the curve are drawn again.
fn ephemeral_key<C>(rng: &mut impl CryptoRng) -> SecretKey<C>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
{
    let mut scalar = Zeroizing::new(p256::elliptic_curve::FieldBytes::<C>::default());
    loop {
        rng.fill_bytes(&mut scalar);
        if let Ok(key) = SecretKey::from_bytes(&scalar) {
            return key;
        }
    }
}

/// x and y, each of the curve's full size.
fn coordinates<C>(key: &PublicKey<C>) -> (Vec<u8>, Vec<u8>)
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    let point = key.to_sec1_point(false);
    let coordinate = |value: Option<&p256::elliptic_curve::FieldBytes<C>>| {
        value.map(|bytes| bytes.to_vec()).unwrap_or_default()
    };
    (coordinate(point.x()), coordinate(point.y()))
}

fn rsa_seed(key: &RsaPublicKey, hash: Hash, rng: &mut impl CryptoRng) -> Result<Seed, Error> {
    let mut seed = Zeroizing::new(vec![0; hash.size()]);
    rng.fill_bytes(&mut seed);
    // The label is hashed with its terminating NUL.
    let label = [LABEL.as_bytes(), &[0]].concat();
    let encrypted = match hash {
        Hash::Sha256 => key.encrypt(rng, Oaep::<Sha256>::new_with_label(label), &seed),
        Hash::Sha384 => key.encrypt(rng, Oaep::<Sha384>::new_with_label(label), &seed),
    };
    let encrypted = encrypted
        .map_err(|error| Error::EndorsementKey(format!("its RSA key cannot be used ({error})")))?;
    Ok((seed, encrypted))
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

#[cfg(test)]
mod tests {
    use rand_core::UnwrapErr;
    use rsa::pkcs8::DecodePrivateKey;

    use super::*;
    use crate::endorsement::EndorsementKey;
    use crate::seal::{STORAGE_ROOT_HANDLE, StorageRootKey};

    const SECRET: &[u8] = b"thirty-two bytes make one secret";
    const KINDS: [&str; 3] = ["p256", "p384", "rsa2048"];

    fn vector(path: &str) -> Vec<u8> {
        let path = format!("{}/../tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    fn area(kind: &str) -> EndorsementArea {
        EndorsementArea::from_sized(&vector(&format!("creds/tpm/{kind}.endorsement.pub"))).unwrap()
    }

    fn name() -> Vec<u8> {
        [&[0, 0x0b][..], &[0x5a; 32]].concat()
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

    /// The seed, as the owner of the private key recovers it.
    fn recovered_seed(kind: &str, encrypted: &[u8]) -> Vec<u8> {
        match kind {
            "p256" => recovered_ecc_seed::<p256::NistP256>(Hash::Sha256, &[7; 32], encrypted),
            "p384" => recovered_ecc_seed::<p384::NistP384>(Hash::Sha384, &[7; 48], encrypted),
            _ => {
                let pem = String::from_utf8(vector("ddi/keys/rsa2048.key")).unwrap();
                let key = rsa::RsaPrivateKey::from_pkcs8_pem(&pem).unwrap();
                let padding = Oaep::<Sha256>::new_with_label(b"IDENTITY\0".to_vec());
                key.decrypt(padding, encrypted).unwrap()
            }
        }
    }

    fn recovered_ecc_seed<C>(hash: Hash, scalar: &[u8], encrypted: &[u8]) -> Vec<u8>
    where
        C: CurveArithmetic,
        FieldBytesSize<C>: ModulusSize,
        AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    {
        let own = SecretKey::<C>::from_slice(scalar).unwrap();
        let (x, rest) = public::unsized_prefix(encrypted).unwrap();
        let y = public::unsized_whole(rest).unwrap();
        let point = [&[4], x, y].concat();
        let ephemeral = PublicKey::<C>::from_sec1_bytes(&point).unwrap();
        let shared = ecdh::diffie_hellman(own.to_nonzero_scalar(), ephemeral.as_affine());
        let own_x = coordinates(&own.public_key()).0;
        hash.kdf_e(shared.raw_secret_bytes(), LABEL, x, &own_x)
            .to_vec()
    }

    /// What has to stand in TPM2B_ID_OBJECT, given the encrypted seed.
    fn expected_credential(kind: &str, encrypted: &[u8]) -> Vec<u8> {
        let content = Zeroizing::new(public::sized(SECRET));
        let seed = recovered_seed(kind, encrypted);
        wrap(area(kind).template().hash(), &seed, &name(), content)
    }

    #[test]
    fn the_arithmetic_is_that_of_tpm2_makecredential() {
        for kind in KINDS {
            let theirs = vector(&format!("creds/tpm/{kind}.makecredential"));
            let (credential, rest) = public::unsized_prefix(&theirs).unwrap();
            let encrypted = public::unsized_whole(rest).unwrap();
            assert_eq!(expected_credential(kind, encrypted), credential, "{kind}");
        }
    }

    #[test]
    fn the_owner_of_the_private_key_recovers_the_secret() {
        for kind in KINDS {
            let rng = &mut UnwrapErr(getrandom::SysRng);
            let (credential, seed) = make_credential(&area(kind), &name(), SECRET, rng).unwrap();
            assert_eq!(expected_credential(kind, &seed), credential, "{kind}");
        }
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
