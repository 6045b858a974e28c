//! `Tpm`: what only the chip itself can answer: its keys, its PCR values, a sealed key.
//!
//! Works on a bare TPM without a resource manager: whatever a call loads, it flushes before it returns, also when it
//! fails half-way.

mod command;
mod endorsement;
mod session;
mod transport;

use std::collections::BTreeMap;
use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use tpm2_protocol::data::TpmCc;

pub use command::ResponseCode;
pub use transport::{Device, Socket, Transport, open};

use crate::error::Error;
use crate::kdf::sha256;
use crate::pcr::{PcrBank, PcrMask};
use crate::policy::PolicyKey;
use crate::public::{self, Algorithm, PublicArea, Template};
use crate::seal::{STORAGE_ROOT_HANDLE, Sealed, SealedTo, StorageRootKey};
use crate::secret::Secret;
use crate::signature::PcrSignatures;
use command::{Authorization, Command, Response};
use session::PolicySession;

const OWNER: u32 = 0x4000_0001;
/// A PCR that changes between policy and unsealing: systemd tries as often.
const PCR_CHANGED_ATTEMPTS: usize = 30;

/// A TPM behind a transport.
pub struct Tpm<'a> {
    transport: &'a mut dyn Transport,
    rng: &'a mut dyn CryptoRng,
    /// Transient objects and sessions of ours, in the order they were made.
    loaded: Vec<u32>,
}

impl fmt::Debug for Tpm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tpm")
    }
}

impl<'a> Tpm<'a> {
    /// A TPM reached through `transport`; `rng` makes nonces and salts.
    pub fn new(transport: &'a mut dyn Transport, rng: &'a mut dyn CryptoRng) -> Self {
        Self {
            transport,
            rng,
            loaded: Vec::new(),
        }
    }

    /// The key at a persistent handle, [`STORAGE_ROOT_HANDLE`] as a rule; `None` when the handle is empty.
    ///
    /// # Errors
    ///
    /// [`Error::PublicArea`] when the key there cannot be a storage key.
    pub fn storage_root_key(&mut self, handle: u32) -> Result<Option<StorageRootKey>, Error> {
        let command = Command::new(TpmCc::ReadPublic).handle(handle);
        let response = match self.run(&command) {
            Err(Error::Tpm { code, .. }) if code.is(ResponseCode::HANDLE) => return Ok(None),
            response => response?,
        };
        let public = PublicArea::parse(response.fields().sized()?)?;
        Ok(Some(StorageRootKey { handle, public }))
    }

    /// Makes the storage root key at [`STORAGE_ROOT_HANDLE`] as systemd-tpm2-setup does: ECC where the TPM can, else RSA.
    ///
    /// # Errors
    ///
    /// [`Error::OwnerLocked`] when the owner hierarchy has a password.
    pub fn create_storage_root_key(&mut self) -> Result<StorageRootKey, Error> {
        self.cleaning_up(|tpm| {
            let (object, public) = tpm.create_storage_root()?;
            let command = Command::new(TpmCc::EvictControl)
                .handle(OWNER)
                .handle(object)
                .u32(STORAGE_ROOT_HANDLE);
            tpm.run(&command.authorize(Authorization::EmptyPassword))?;
            Ok(StorageRootKey {
                handle: STORAGE_ROOT_HANDLE,
                public,
            })
        })
    }

    /// The key that [`Self::create_storage_root_key`] would make, which a TPM derives from its seed; it is not kept.
    ///
    /// # Errors
    ///
    /// As [`Self::create_storage_root_key`].
    pub fn future_storage_root_key(&mut self) -> Result<StorageRootKey, Error> {
        self.cleaning_up(|tpm| {
            let (_, public) = tpm.create_storage_root()?;
            Ok(StorageRootKey {
                handle: STORAGE_ROOT_HANDLE,
                public,
            })
        })
    }

    /// The parent that systemd makes anew for types without a pinned key.
    ///
    /// # Errors
    ///
    /// [`Error::OwnerLocked`] when the owner hierarchy has a password; [`Error::Tpm`] when the TPM has no such algorithm.
    pub fn legacy_parent(&mut self, algorithm: Algorithm) -> Result<PublicArea, Error> {
        self.cleaning_up(|tpm| {
            tpm.create_primary(Template::LegacyParent, algorithm)
                .map(|(_, public)| public)
        })
    }

    /// The banks whose registers the TPM keeps, in systemd's order of preference.
    ///
    /// # Errors
    ///
    /// When the TPM cannot be asked.
    pub fn banks(&mut self) -> Result<Vec<PcrBank>, Error> {
        const CAPABILITY_PCRS: u32 = 5;
        let response = self.run(
            &Command::new(TpmCc::GetCapability)
                .u32(CAPABILITY_PCRS)
                .u32(0)
                .u32(1),
        )?;
        let mut fields = response.fields();
        fields.u8()?;
        fields.u32()?;
        let mut found = Vec::new();
        for _ in 0..fields.u32()? {
            let id = fields.u16()?;
            let size = usize::from(fields.u8()?);
            // A bank without any register is switched off.
            if fields.bytes(size)?.iter().any(|byte| *byte != 0) {
                found.push(id);
            }
        }
        Ok(PcrBank::ALL
            .into_iter()
            .filter(|bank| found.contains(&bank.id()))
            .collect())
    }

    /// The values of these registers now, each of the bank's size.
    ///
    /// # Errors
    ///
    /// [`Error::PcrValueMissing`] for the first one that the bank does not have.
    pub fn read_pcrs(
        &mut self,
        bank: PcrBank,
        pcrs: PcrMask,
    ) -> Result<BTreeMap<u32, Vec<u8>>, Error> {
        let mut values = BTreeMap::new();
        // The TPM answers for a few registers at a time.
        for pcr in pcrs.iter() {
            let selection = PcrMask::from_iter([pcr]).selection(bank);
            let response = self.run(&Command::new(TpmCc::PcrRead).bytes(&selection))?;
            let mut fields = response.fields();
            fields.u32()?;
            fields.skip_selection()?;
            let value = match fields.u32()? {
                1 => fields.sized()?,
                _ => return Err(Error::PcrValueMissing { pcr, bank }),
            };
            values.insert(pcr, value.to_vec());
        }
        Ok(values)
    }

    /// The bank systemd would bind these registers in: the first of sha256, sha384, sha512, sha1 in which one of them was ever
    /// extended, else the first there is. sha256 without registers.
    ///
    /// # Errors
    ///
    /// When the TPM cannot be asked.
    pub fn best_bank(&mut self, pcrs: PcrMask) -> Result<PcrBank, Error> {
        if pcrs.is_empty() {
            return Ok(PcrBank::Sha256);
        }
        let banks = self.banks()?;
        for &bank in &banks {
            let values = self.read_pcrs(bank, pcrs)?;
            if values
                .values()
                .any(|value| value.iter().any(|byte| !matches!(byte, 0 | 0xff)))
            {
                return Ok(bank);
            }
        }
        Ok(banks.first().copied().unwrap_or(PcrBank::Sha256))
    }

    /// Opens a sealed key. The answer travels encrypted: its session is salted to the storage key named in the credential, or
    /// to the legacy parent that the TPM shows.
    ///
    /// # Errors
    ///
    /// [`Error::OtherTpm`], [`Error::PolicyMismatch`], [`Error::SignatureNotFound`], [`Error::HandleEmpty`],
    /// [`Error::OwnerLocked`], [`Error::Lockout`], and what else the TPM refuses. Nothing of ours stays loaded.
    pub fn unseal(
        &mut self,
        sealed: &Sealed<'_>,
        signatures: Option<&PcrSignatures>,
    ) -> Result<Secret, Error> {
        self.cleaning_up(|tpm| {
            let (parent, public) = tpm.parent(&sealed.parent)?;
            let object = tpm.load(parent, sealed)?;
            for _ in 1..PCR_CHANGED_ATTEMPTS {
                match tpm.unseal_loaded(parent, &public, object, sealed, signatures) {
                    Err(Error::Tpm { code, .. }) if code.is(ResponseCode::PCR_CHANGED) => {}
                    result => return result,
                }
            }
            tpm.unseal_loaded(parent, &public, object, sealed, signatures)
        })
    }

    fn parent(&mut self, parent: &SealedTo) -> Result<(u32, PublicArea), Error> {
        match parent {
            SealedTo::Pinned(key) => Ok((key.handle, key.public.clone())),
            SealedTo::Legacy(algorithm) => self.create_primary(Template::LegacyParent, *algorithm),
        }
    }

    fn create_storage_root(&mut self) -> Result<(u32, PublicArea), Error> {
        match self.create_primary(Template::StorageRootKey, Algorithm::Ecc) {
            Err(Error::Tpm { .. }) => self.create_primary(Template::StorageRootKey, Algorithm::Rsa),
            made => made,
        }
    }

    fn create_primary(
        &mut self,
        template: Template,
        algorithm: Algorithm,
    ) -> Result<(u32, PublicArea), Error> {
        let response = self.create_primary_in(OWNER, &template.sized(algorithm))?;
        let public = PublicArea::parse(response.fields().sized()?)?;
        Ok((response.handle()?, public))
    }

    /// Makes a primary key of a hierarchy whose password is empty, from a template with its size.
    fn create_primary_in(&mut self, hierarchy: u32, template: &[u8]) -> Result<Response, Error> {
        let command = Command::new(TpmCc::CreatePrimary)
            .handle(hierarchy)
            .authorize(Authorization::EmptyPassword)
            // An empty sensitive area of four bytes, the template, no outside info, no PCRs.
            .bytes(&[0, 4, 0, 0, 0, 0])
            .bytes(template)
            .bytes(&[0, 0, 0, 0, 0, 0]);
        self.run(&command).map_err(|error| match error {
            Error::Tpm { code, .. } if code.is_wrong_password() && hierarchy == OWNER => {
                Error::OwnerLocked
            }
            Error::Tpm { code, .. } if code.is_wrong_password() => Error::EndorsementLocked,
            error => error,
        })
    }

    /// Imports the object if it came from elsewhere, and loads it.
    fn load(&mut self, parent: u32, sealed: &Sealed<'_>) -> Result<u32, Error> {
        let blob = &sealed.blob;
        let imported = match blob.seed {
            None => None,
            Some(seed) => {
                let command = Command::new(TpmCc::Import)
                    .handle(parent)
                    .authorize(Authorization::EmptyPassword);
                // No inner wrapper: an empty key before, TPM_ALG_NULL after.
                let command = command
                    .bytes(&[0, 0])
                    .bytes(blob.public)
                    .bytes(blob.private)
                    .bytes(seed)
                    .bytes(&[0, 0x10]);
                let response = self
                    .run(&command)
                    .map_err(|error| belongs_elsewhere(error, parent))?;
                Some(public::sized(response.fields().sized()?))
            }
        };
        let private = imported.as_deref().unwrap_or(blob.private);
        let command = Command::new(TpmCc::Load)
            .handle(parent)
            .authorize(Authorization::EmptyPassword);
        let response = self
            .run(&command.bytes(private).bytes(blob.public))
            .map_err(|error| belongs_elsewhere(error, parent))?;
        response.handle()
    }

    fn unseal_loaded(
        &mut self,
        parent: u32,
        public: &PublicArea,
        object: u32,
        sealed: &Sealed<'_>,
        signatures: Option<&PcrSignatures>,
    ) -> Result<Secret, Error> {
        let key = sealed
            .signed
            .as_ref()
            .map(|signed| PolicyKey::from_pem(signed.pem))
            .transpose()?;
        let mut session = self.satisfied_session(
            parent,
            public,
            sealed,
            key.as_ref().map(|key| (key, key.exponent)),
            signatures,
        )?;
        // Some old writers put the exponent as 0 into the key's name, and so into the policy.
        if let (None, Some(key)) = (&session, &key) {
            session = self.satisfied_session(parent, public, sealed, Some((key, 0)), signatures)?;
        }
        let Some(session) = session else {
            return Err(Error::PolicyMismatch(mismatch(sealed)));
        };
        let area = public::unsized_whole(sealed.blob.public)?;
        session
            .unseal(self, object, &public::name(area))
            .map_err(|error| match error {
                Error::Tpm { code, .. } if code.is(ResponseCode::POLICY_FAIL) => {
                    Error::PolicyMismatch(mismatch(sealed))
                }
                error => error,
            })
    }

    /// A session in which the policy of `sealed` is satisfied; `None` when its digest comes out different.
    fn satisfied_session(
        &mut self,
        parent: u32,
        public: &PublicArea,
        sealed: &Sealed<'_>,
        key: Option<(&PolicyKey, u32)>,
        signatures: Option<&PcrSignatures>,
    ) -> Result<Option<PolicySession>, Error> {
        let session = PolicySession::start(self, parent, public)?;
        if let (Some((key, exponent)), Some(signed)) = (key, &sealed.signed) {
            self.policy_pcr(&session, sealed.bank, signed.pcrs)?;
            let signatures = signatures.ok_or(Error::SignatureMissing)?;
            let approved = self.policy_digest(&session)?;
            let fingerprint = key.fingerprint();
            let Some(signature) = signatures.find(
                sealed.bank,
                signed.pcrs,
                &fingerprint,
                &hex::encode(&approved),
            ) else {
                return Err(Error::SignatureNotFound {
                    bank: sealed.bank,
                    pcrs: signed.pcrs,
                    fingerprint,
                });
            };
            self.policy_authorize(&session, key, exponent, &approved, &signature)?;
        }
        if !sealed.literal.is_empty() {
            self.policy_pcr(&session, sealed.bank, sealed.literal)?;
        }
        let digest = self.policy_digest(&session)?;
        Ok(bool::from(digest.ct_eq(sealed.policy)).then_some(session))
    }

    fn policy_pcr(
        &mut self,
        session: &PolicySession,
        bank: PcrBank,
        pcrs: PcrMask,
    ) -> Result<(), Error> {
        let command = Command::new(TpmCc::PolicyPcr)
            .handle(session.handle())
            .bytes(&[0, 0])
            .bytes(&pcrs.selection(bank));
        self.run(&command).map(drop)
    }

    fn policy_digest(&mut self, session: &PolicySession) -> Result<Vec<u8>, Error> {
        let response = self.run(&Command::new(TpmCc::PolicyGetDigest).handle(session.handle()))?;
        Ok(response.fields().sized()?.to_vec())
    }

    /// Lets the TPM check the signature over the approved policy, then replaces the session's policy by "signed by this key".
    fn policy_authorize(
        &mut self,
        session: &PolicySession,
        key: &PolicyKey,
        exponent: u32,
        approved: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let command = Command::new(TpmCc::LoadExternal)
            .bytes(&[0, 0])
            .sized(&key.area(exponent))
            .u32(OWNER);
        let loaded = self.run(&command)?.handle()?;
        // RSASSA with SHA-256, over the hash of the approved policy and an empty reference.
        let command = Command::new(TpmCc::VerifySignature)
            .handle(loaded)
            .sized(&sha256(&[approved]));
        let response = self.run(&command.bytes(&[0, 0x14, 0, 0x0b]).sized(signature))?;
        // Bare TPMs have three slots for objects, and parent and sealed key take two.
        self.flush(loaded);
        let command = Command::new(TpmCc::PolicyAuthorize)
            .handle(session.handle())
            .sized(approved)
            .bytes(&[0, 0]);
        self.run(
            &command
                .sized(&key.name(exponent))
                .bytes(response.parameters()),
        )
        .map(drop)
    }

    /// Runs `work`, then flushes whatever it left loaded, newest first. The TPM may be failing: what can be flushed is.
    fn cleaning_up<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = work(self);
        while let Some(&handle) = self.loaded.last() {
            self.flush(handle);
        }
        result
    }

    /// Flushes whatever was loaded after `handle`.
    fn flush_behind(&mut self, handle: u32) {
        while let Some(&last) = self.loaded.last().filter(|last| **last != handle) {
            self.flush(last);
        }
    }

    fn flush(&mut self, handle: u32) {
        self.loaded.retain(|loaded| *loaded != handle);
        let _ = self.run(&Command::new(TpmCc::FlushContext).u32(handle));
    }

    /// Sends a command and reads the answer, again when the TPM asks for it. A new handle is noted before anything can fail.
    fn run(&mut self, command: &Command) -> Result<Response, Error> {
        let response = command.transact(self.transport)?;
        if let Some(handle) = response.new_handle() {
            self.loaded.push(handle);
        }
        response.check()
    }
}

/// Import and Load tell by a failed integrity check that a key was sealed to another TPM.
fn belongs_elsewhere(error: Error, handle: u32) -> Error {
    match error {
        Error::Tpm { code, .. } if code.is(ResponseCode::INTEGRITY) => Error::OtherTpm,
        Error::Tpm { code, .. } if code.is(ResponseCode::HANDLE) => Error::HandleEmpty { handle },
        error => error,
    }
}

fn mismatch(sealed: &Sealed<'_>) -> String {
    let literal = (!sealed.literal.is_empty()).then(|| format!("PCR {} by value", sealed.literal));
    let signed = sealed
        .signed
        .as_ref()
        .map(|signed| format!("PCR {} by signature", signed.pcrs));
    let parts: Vec<String> = literal.into_iter().chain(signed).collect();
    match parts.as_slice() {
        [] => "the policy in the file is not the one of the sealed key".to_owned(),
        parts => format!("{}, {} bank", parts.join(", "), sealed.bank),
    }
}
