//! `HostIdentity`: the public half of a host, as the JSON file that `--for=` takes.
//!
//! Nothing in it is secret. It must be authentic all the same: whoever swaps a public area reads what is sealed to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::endorsement::{EndorsementArea, EndorsementKey};
use crate::error::Error;
use crate::machine::MachineId;
use crate::pcr::PcrBank;
use crate::public::{self, Algorithm, PublicArea, Template};
use crate::seal::{Parent, STORAGE_ROOT_HANDLE, StorageRootKey};
use crate::tpm::Tpm;

/// Version of the JSON form; changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;

/// What a sealer needs to know of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HostIdentity {
    /// A name for people.
    pub name: Option<String>,
    /// For scoped credentials and host secrets.
    pub machine_id: Option<MachineId>,
    /// The systemd that will open credentials there.
    pub systemd_version: Option<u16>,
    /// The storage root key, when the TPM has been set up.
    pub storage_root_key: Option<StorageRootKey>,
    /// The parent of un-pinned types, when the owner hierarchy has no password.
    pub legacy_parent: Option<PublicArea>,
    /// The endorsement key, by which [`Challenge`](crate::Challenge) proves the other keys.
    pub endorsement_key: Option<EndorsementKey>,
    /// Banks whose registers the TPM keeps.
    pub pcr_banks: Vec<PcrBank>,
}

impl HostIdentity {
    /// Asks a TPM for its half: storage root key, legacy parent (ECC where the TPM can) and banks.
    ///
    /// A missing storage root key or a locked hierarchy leaves the member empty. The endorsement key is
    /// [`Tpm::endorsement_key`]'s: sealing does not need it, and some chips take seconds to make it.
    ///
    /// # Errors
    ///
    /// When the TPM cannot be asked, or the key at its handle cannot be a storage key.
    pub fn of_tpm(tpm: &mut Tpm<'_>) -> Result<Self, Error> {
        Ok(Self {
            storage_root_key: tpm.storage_root_key(STORAGE_ROOT_HANDLE)?,
            legacy_parent: best_legacy_parent(tpm)?,
            pcr_banks: tpm.banks()?,
            ..Self::default()
        })
    }

    /// Of the storage root key alone, as TPM2B_PUBLIC: `systemd-analyze srk` writes it, systemd-tpm2-setup keeps it as
    /// `/run/systemd/tpm2-srk-public-key.tpm2b_public`. Pinned credentials can be sealed to it.
    ///
    /// # Errors
    ///
    /// [`Error::PublicArea`] when it is no such structure or no storage key.
    pub fn of_storage_root_key(public: &[u8]) -> Result<Self, Error> {
        let public = PublicArea::from_sized(public)?;
        let handle = STORAGE_ROOT_HANDLE;
        Ok(Self {
            storage_root_key: Some(StorageRootKey { handle, public }),
            ..Self::default()
        })
    }

    /// The storage key to seal to.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`] when the identity lacks that one.
    pub fn parent(&self, pinned: bool) -> Result<Parent, Error> {
        if pinned {
            let key = self.storage_root_key.clone().map(Parent::StorageRootKey);
            key.ok_or_else(|| {
                member(
                    "storageRootKey",
                    "it is missing, and pinned credentials are sealed to it",
                )
            })
        } else {
            let public = self.legacy_parent.clone().map(Parent::Legacy);
            public.ok_or_else(|| {
                member(
                    "legacyParent",
                    "it is missing, and un-pinned credentials are sealed to it",
                )
            })
        }
    }

    /// Reads the JSON form. Every TPM name is computed anew, every key checked to be what its member says.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`] with the member and what is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let file: File =
            serde_json::from_slice(json).map_err(|error| member("", &error.to_string()))?;
        if file.schema != SCHEMA {
            return Err(member(
                "schema",
                &format!("it is {}, this version reads {SCHEMA}", file.schema),
            ));
        }
        let storage_root_key = file
            .storage_root_key
            .as_ref()
            .map(storage_root_key)
            .transpose()?;
        let legacy_parent = file.legacy_parent.as_ref().map(legacy_parent).transpose()?;
        let endorsement_key = file
            .endorsement_key
            .as_ref()
            .map(endorsement_key)
            .transpose()?;
        let machine_id = file.machine_id.as_deref().map(str::parse).transpose();
        Ok(Self {
            name: file.name,
            machine_id: machine_id
                .map_err(|error: Error| member("machineId", &error.to_string()))?,
            systemd_version: file.systemd_version,
            storage_root_key,
            legacy_parent,
            endorsement_key,
            pcr_banks: file.pcr_banks,
        })
    }

    /// The JSON form, indented, with a newline at the end.
    pub fn to_json(&self) -> String {
        let file = File {
            schema: SCHEMA,
            name: self.name.clone(),
            machine_id: self.machine_id.map(|id| id.to_string()),
            systemd_version: self.systemd_version,
            storage_root_key: self
                .storage_root_key
                .as_ref()
                .map(|key| Member::new(&key.public.name(), &key.public.to_sized()).at(key.handle)),
            legacy_parent: self
                .legacy_parent
                .as_ref()
                .map(|public| Member::new(&public.name(), &public.to_sized())),
            endorsement_key: self.endorsement_key.as_ref().map(|key| {
                Member::new(&key.public.name(), &key.public.to_sized())
                    .certified(key.certificate.as_deref())
            }),
            pcr_banks: self.pcr_banks.clone(),
        };
        // A struct of texts and numbers always has a JSON form.
        serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
    }
}

/// ECC where the TPM can, else RSA; nothing when the owner hierarchy is locked.
fn best_legacy_parent(tpm: &mut Tpm<'_>) -> Result<Option<PublicArea>, Error> {
    for algorithm in [Algorithm::Ecc, Algorithm::Rsa] {
        match tpm.legacy_parent(algorithm) {
            Ok(public) => return Ok(Some(public)),
            Err(Error::OwnerLocked) => return Ok(None),
            Err(Error::Tpm { .. }) if algorithm == Algorithm::Ecc => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    schema: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    systemd_version: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_root_key: Option<Member>,
    #[serde(skip_serializing_if = "Option::is_none")]
    legacy_parent: Option<Member>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endorsement_key: Option<Member>,
    #[serde(default)]
    pcr_banks: Vec<PcrBank>,
}

/// A key of the TPM.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    /// TPM name, hexadecimal.
    name: String,
    /// TPM2B_PUBLIC, Base64.
    public: String,
    /// X.509 in DER, Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

impl Member {
    fn new(name: &[u8], public: &[u8]) -> Self {
        Self {
            handle: None,
            name: hex::encode(name),
            public: STANDARD.encode(public),
            certificate: None,
        }
    }

    fn at(mut self, handle: u32) -> Self {
        self.handle = Some(format!("{handle:#010x}"));
        self
    }

    fn certified(mut self, certificate: Option<&[u8]>) -> Self {
        self.certificate = certificate.map(|der| STANDARD.encode(der));
        self
    }

    /// The public area as `read` reads it, which must have the name stated.
    fn public<A>(
        &self,
        at: &str,
        read: fn(&[u8]) -> Result<A, Error>,
        name: fn(&A) -> Vec<u8>,
    ) -> Result<A, Error> {
        let inside = |name: &str| format!("{at}.{name}");
        let bytes = base64(&inside("public"), &self.public)?;
        let public = read(&bytes).map_err(|error| member(&inside("public"), &error.to_string()))?;
        let name = hex::encode(name(&public));
        if !name.eq_ignore_ascii_case(&self.name) {
            return Err(member(
                &inside("name"),
                &format!("it is {}, the public area's is {name}", self.name),
            ));
        }
        Ok(public)
    }

    fn storage_key(&self, at: &str) -> Result<PublicArea, Error> {
        self.public(at, PublicArea::from_sized, PublicArea::name)
    }
}

fn base64(at: &str, text: &str) -> Result<Vec<u8>, Error> {
    STANDARD
        .decode(text)
        .map_err(|_| member(at, "it is not Base64"))
}

fn storage_root_key(found: &Member) -> Result<StorageRootKey, Error> {
    let public = found.storage_key("storageRootKey")?;
    let handle = found.handle.as_deref().and_then(public::persistent_handle);
    let handle = handle.ok_or_else(|| {
        member(
            "storageRootKey.handle",
            "it is not a persistent handle such as 0x81000001",
        )
    })?;
    Ok(StorageRootKey { handle, public })
}

fn endorsement_key(found: &Member) -> Result<EndorsementKey, Error> {
    let at = "endorsementKey";
    let public = found.public(at, EndorsementArea::from_sized, EndorsementArea::name)?;
    let certificate = found.certificate.as_deref();
    let certificate = certificate.map(|text| base64("endorsementKey.certificate", text));
    Ok(EndorsementKey::new(public, certificate.transpose()?))
}

fn legacy_parent(found: &Member) -> Result<PublicArea, Error> {
    let public = found.storage_key("legacyParent")?;
    if !public.is(Template::LegacyParent) {
        return Err(member(
            "legacyParent.public",
            "its attributes are not those of the key that systemd makes",
        ));
    }
    Ok(public)
}

fn member(member: &str, reason: &str) -> Error {
    Error::Identity {
        member: member.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(file: &str) -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/creds/tpm/");
        std::fs::read(format!("{path}{file}")).unwrap()
    }

    fn public(file: &str) -> PublicArea {
        PublicArea::from_sized(&vector(file)).unwrap()
    }

    fn identity() -> HostIdentity {
        HostIdentity {
            name: Some("web1".into()),
            machine_id: Some("0123456789abcdef0123456789abcdef".parse().unwrap()),
            systemd_version: Some(262),
            storage_root_key: Some(StorageRootKey {
                handle: STORAGE_ROOT_HANDLE,
                public: public("a.srk.pub"),
            }),
            legacy_parent: Some(public("rsa.legacy-rsa.pub")),
            endorsement_key: Some(EndorsementKey::new(
                EndorsementArea::from_sized(&vector("p384.endorsement.pub")).unwrap(),
                Some(vec![0x30, 0]),
            )),
            pcr_banks: vec![PcrBank::Sha256, PcrBank::Sha384],
        }
    }

    #[test]
    fn out_and_back() {
        assert_eq!(
            HostIdentity::from_json(identity().to_json().as_bytes()).unwrap(),
            identity()
        );
        assert_eq!(
            HostIdentity::from_json(br#"{"schema":1}"#).unwrap(),
            HostIdentity::default()
        );
    }

    #[test]
    fn contradictions_are_refused_with_their_place() {
        let json = identity().to_json();
        let srk = STANDARD.encode(public("a.srk.pub").to_sized());
        let legacy = STANDARD.encode(public("rsa.legacy-rsa.pub").to_sized());
        let swapped = json.replace(&legacy, &srk).replace(
            &hex::encode(public("rsa.legacy-rsa.pub").name()),
            &hex::encode(public("a.srk.pub").name()),
        );
        let name = hex::encode(identity().endorsement_key.unwrap().public.name());
        let wrong_name = format!(
            "host identity, `endorsementKey.name`: it is 000d{}, the public area's is {name}",
            &name[4..]
        );
        for (json, wanted) in [
            (
                json.replace("\"schema\": 1", "\"schema\": 2"),
                "host identity, `schema`: it is 2, this version reads 1",
            ),
            (
                json.replace("0x81000001", "0x80000001"),
                "host identity, `storageRootKey.handle`: it is not a persistent handle such as 0x81000001",
            ),
            (
                json.replace(&srk, "AAA"),
                "host identity, `storageRootKey.public`: it is not Base64",
            ),
            (
                json.replace("MAA=", "MAA"),
                "host identity, `endorsementKey.certificate`: it is not Base64",
            ),
            (
                json.replace("\"name\": \"000c", "\"name\": \"000d"),
                wrong_name.as_str(),
            ),
            (
                swapped,
                "host identity, `legacyParent.public`: its attributes are not those of the key that systemd makes",
            ),
        ] {
            assert_eq!(
                HostIdentity::from_json(json.as_bytes())
                    .unwrap_err()
                    .to_string(),
                wanted
            );
        }
        let mut off_curve = public("a.srk.pub").to_sized();
        *off_curve.last_mut().unwrap() ^= 1;
        let error =
            HostIdentity::from_json(json.replace(&srk, &STANDARD.encode(off_curve)).as_bytes())
                .unwrap_err()
                .to_string();
        assert!(error.ends_with("its point is not on NIST P-256"), "{error}");
    }

    #[test]
    fn a_storage_root_key_alone_is_an_identity() {
        let public = public("a.srk.pub");
        let identity = HostIdentity::of_storage_root_key(&vector("a.srk.pub")).unwrap();
        let handle = STORAGE_ROOT_HANDLE;
        let key = StorageRootKey { handle, public };
        assert_eq!(identity.storage_root_key, Some(key));
        assert_eq!(identity.legacy_parent, None);
    }
}
