//! A policy session, salted to a storage key, through which the TPM returns a sealed key encrypted.
//!
//! Only the owner of the storage key's private half learns the salt, so only that TPM can answer with the right HMAC
//! (TPM 2.0 Library, part 1, sections 19.6 and 21).

use aes::Aes128;
use cfb_mode::cipher::KeyIvInit;
use subtle::ConstantTimeEq;
use tpm2_protocol::data::TpmCc;
use zeroize::Zeroizing;

use super::command::{Authorization, Command, Fields, Response};
use super::{ResponseCode, Tpm};
use crate::error::Error;
use crate::kdf::{Derived, hmac_sha256, kdf_a, sha256};
use crate::public::{self, PublicArea};
use crate::seal::seed_for;
use crate::secret::Secret;

pub(super) const NULL_HANDLE: u32 = 0x4000_0007;
pub(super) const POLICY: u8 = 1;
/// continueSession and encrypt: the answer's first parameter comes encrypted.
const ATTRIBUTES: u8 = 0x41;

pub(super) struct PolicySession {
    handle: u32,
    key: Derived<32>,
    nonce_tpm: Vec<u8>,
}

impl PolicySession {
    /// Starts a session salted to `public`, the key at `parent`.
    pub(super) fn start(
        tpm: &mut Tpm<'_>,
        parent: u32,
        public: &PublicArea,
    ) -> Result<Self, Error> {
        let salt = seed_for(public, "SECRET", tpm.rng)?;
        let nonce = nonce(tpm);
        let command = Command::new(TpmCc::StartAuthSession)
            .handle(parent)
            .handle(NULL_HANDLE)
            .sized(&nonce)
            .sized(&salt.encrypted)
            // Policy session; AES-128-CFB for parameters; SHA-256.
            .bytes(&[POLICY, 0, 0x06, 0, 0x80, 0, 0x43, 0, 0x0b]);
        let response = tpm.run(&command).map_err(|error| match error {
            Error::Tpm { code, .. } if code.is(ResponseCode::HANDLE) => {
                Error::HandleEmpty { handle: parent }
            }
            error => error,
        })?;
        let nonce_tpm = response.fields().sized()?.to_vec();
        let key = kdf_a(&salt.value, "ATH", &nonce_tpm, &nonce);
        Ok(Self {
            handle: response.handle()?,
            key,
            nonce_tpm,
        })
    }

    pub(super) fn handle(&self) -> u32 {
        self.handle
    }

    /// Unseals the object called `name`. The answer is authenticated before it is decrypted.
    pub(super) fn unseal(
        &self,
        tpm: &mut Tpm<'_>,
        object: u32,
        name: &[u8],
    ) -> Result<Secret, Error> {
        let nonce = nonce(tpm);
        let code = TpmCc::Unseal.value().to_be_bytes();
        let hmac = self.hmac(&sha256(&[&code, name]), &nonce, &self.nonce_tpm, ATTRIBUTES);
        let session = [
            &self.handle.to_be_bytes()[..],
            &public::sized(&nonce),
            &[ATTRIBUTES],
            &public::sized(&hmac),
        ]
        .concat();
        let command = Command::new(TpmCc::Unseal)
            .handle(object)
            .authorize(Authorization::Session(session));
        let response = tpm.run(&command)?;
        let nonce_tpm = self.authenticate(&response, &nonce)?;
        self.decrypt(response.fields(), &nonce_tpm, &nonce)
    }

    /// Checks the answer's HMAC and returns the TPM's new nonce.
    fn authenticate(&self, response: &Response, nonce: &[u8]) -> Result<Vec<u8>, Error> {
        let mut fields = response.authorization();
        let nonce_tpm = fields.sized()?;
        let attributes = fields.u8()?;
        let found = fields.sized()?;
        let code = TpmCc::Unseal.value().to_be_bytes();
        let hash = sha256(&[&[0; 4], &code, response.parameters()]);
        let wanted = self.hmac(&hash, nonce_tpm, nonce, attributes);
        if bool::from(wanted.ct_eq(found)) {
            Ok(nonce_tpm.to_vec())
        } else {
            Err(Error::SessionBroken)
        }
    }

    fn hmac(&self, parameters: &[u8; 32], newer: &[u8], older: &[u8], attributes: u8) -> [u8; 32] {
        hmac_sha256(&*self.key, &[parameters, newer, older, &[attributes]])
    }

    fn decrypt(
        &self,
        mut fields: Fields<'_>,
        nonce_tpm: &[u8],
        nonce: &[u8],
    ) -> Result<Secret, Error> {
        let mut data = Zeroizing::new(fields.sized()?.to_vec());
        let derived = kdf_a::<32>(&*self.key, "CFB", nonce_tpm, nonce);
        let (key, iv) = derived.split_at(16);
        let cipher = cfb_mode::Decryptor::<Aes128>::new_from_slices(key, iv)
            .map_err(|_| Error::SessionBroken)?;
        cipher.decrypt(&mut data);
        Ok(Secret::copied_from(&data))
    }
}

fn nonce(tpm: &mut Tpm<'_>) -> [u8; 32] {
    let mut nonce = [0; 32];
    tpm.rng.fill_bytes(&mut nonce);
    nonce
}
