//! AES-256-GCM over the file's parts, and the derivation of its key.

use aes_gcm::aead::consts::*;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Tag};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::kdf::hmac_sha256;
use crate::secret::Secret;

/// The AES key. Wiped on drop.
pub(crate) struct FileKey(Zeroizing<[u8; 32]>);

impl FileKey {
    /// SHA-256 of the host secret followed by what the TPM unseals; of nothing for the null key.
    pub(crate) fn derive(host: Option<&Secret>, tpm: Option<&Secret>) -> Self {
        let mut hash = Sha256::new();
        for secret in [host, tpm].into_iter().flatten() {
            hash.update(secret.expose());
        }
        Self(Zeroizing::new(hash.finalize().into()))
    }

    /// Narrows the key to one user: HMAC-SHA-256 over the scope (systemd: `mangle_uid_into_key`).
    pub(crate) fn scoped(&self, scope: &[u8]) -> Self {
        Self(Zeroizing::new(hmac_sha256(&*self.0, &[scope])))
    }

    /// Encrypts `data` in place under a 12-byte IV and returns the tag.
    pub(crate) fn encrypt(
        &self,
        iv: &[u8; 12],
        additional: &[u8],
        data: &mut [u8],
    ) -> Result<[u8; 16], Error> {
        let cipher = AesGcm::<Aes256, U12>::new((&*self.0).into());
        let tag = cipher.encrypt_inout_detached(iv.into(), additional, data.into());
        tag.map(Into::into).map_err(|_| Error::Decrypt)
    }

    /// Decrypts `data` in place. GCM takes any IV and so does systemd, though none writes other than 12 bytes.
    pub(crate) fn decrypt(
        &self,
        iv: &[u8],
        additional: &[u8],
        data: &mut [u8],
        tag: &[u8; 16],
    ) -> Result<(), Error> {
        let tag = Tag::<U16>::from(*tag);
        // The size of the IV is a type in the cipher's crate.
        macro_rules! sizes {
            ($($bytes:literal $size:ty),*) => {
                match iv.len() {
                    $($bytes => {
                        let iv = iv.try_into().map_err(|_| Error::Decrypt)?;
                        AesGcm::<Aes256, $size>::new((&*self.0).into()).decrypt_inout_detached(iv, additional, data.into(), &tag)
                    })*
                    _ => return Err(Error::Decrypt),
                }
            };
        }
        let done = sizes!(
            12 U12, 16 U16, 8 U8, 1 U1, 2 U2, 3 U3, 4 U4, 5 U5, 6 U6, 7 U7, 9 U9, 10 U10, 11 U11, 13 U13, 14 U14, 15 U15,
            20 U20, 24 U24, 32 U32, 48 U48, 64 U64, 128 U128
        );
        done.map_err(|_| Error::Decrypt)
    }
}
