//! The signature over a root hash: PKCS#7 (RFC 2315, RFC 5652) in the one form that the kernel's
//! dm-verity and systemd both take.
//!
//! ```text
//! ContentInfo signedData
//!   SignedData version 1, digests { SHA-2 }, content `data`, detached, certificates { signer's }
//!     SignerInfo version 1, issuer and serial number, SHA-2, no attributes,
//!       rsaEncryption (PKCS#1 v1.5) or ECDSA over the 64 hex digits of the root hash
//! ```

mod check;
mod json;

use ukikit_signing::{Certificate, Certificates, Hash, KeyPair, SignedData};

use check::not_over;
pub(crate) use check::{check, describe};
pub(crate) use json::{SIZE_MAX, SignedRootHash};

use crate::{Error, RootHash};

/// Something that signs root hashes with the key of one certificate: a key in memory ([`KeyPair`]), or
/// whatever reaches one elsewhere.
pub trait Signer {
    /// The certificate the signature is checked against.
    fn certificate(&self) -> &Certificate;

    /// Signs the 64 hex digits of `root_hash`.
    ///
    /// # Errors
    ///
    /// [`Error::Signing`] when the key cannot be used.
    fn sign(&self, root_hash: &RootHash) -> Result<RootHashSignature, Error>;
}

/// A finished signature: PKCS#7 in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootHashSignature(Vec<u8>);

impl RootHashSignature {
    /// Bytes from elsewhere; nothing about them is checked here.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Self {
        Self(der.into())
    }

    /// The DER bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// Whatever came back from somebody who was given the bytes to sign: PKCS#7 in DER, or a signature alone as
    /// in [`RootHashSignature::of_raw`]. It is checked by the stricter of the kernel's and systemd's rules, then
    /// put together anew, so that the same signature gives the same bytes whoever wrapped it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with each rule it breaks.
    pub fn of_answer(
        answer: &[u8],
        root_hash: &RootHash,
        certificate: &Certificate,
    ) -> Result<Self, Error> {
        let is_text = answer.starts_with(b"-----BEGIN");
        let signed = SignedData::from_der(answer).ok();
        if signed.is_none() && !is_text {
            return Self::of_raw(answer, root_hash, certificate);
        }
        let given = Self::from_der(answer);
        check(&given, root_hash, &Certificates::new([certificate.clone()]))?;
        let signer = signed.as_ref().and_then(|signed| signed.signers().next());
        match signer.and_then(|signer| Some((signer.hash()?, signer.value().to_vec()))) {
            Some((hash, value)) => Self::wrap(certificate, hash, value),
            None => Ok(given),
        }
    }

    /// A signature alone, as an HSM or a key service gives it, by the key of `certificate`: an RSA block
    /// (PKCS#1 v1.5, over SHA-256, SHA-384 or SHA-512), or for ECDSA two numbers, in DER or one behind the other.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is not over `root_hash`.
    pub fn of_raw(
        raw: &[u8],
        root_hash: &RootHash,
        certificate: &Certificate,
    ) -> Result<Self, Error> {
        let key = certificate.key();
        let content = root_hash.to_be_signed();
        let value = key.signature_from_raw(raw);
        let made_with = Hash::ALL
            .into_iter()
            .filter(|&hash| key.takes(hash))
            .find(|&hash| key.verifies(hash, &hash.digest(&content), &value));
        match made_with {
            Some(hash) => Self::wrap(certificate, hash, value),
            None => Err(not_over(root_hash, certificate)),
        }
    }

    /// Wraps what a key made of the root hash: an RSA block, or an ECDSA signature in DER.
    fn wrap(certificate: &Certificate, hash: Hash, signature: Vec<u8>) -> Result<Self, Error> {
        let signed = SignedData::detached(certificate, hash, signature)?;
        Ok(Self(signed.to_der()?))
    }
}

impl Signer for KeyPair {
    fn certificate(&self) -> &Certificate {
        self.certificate()
    }

    fn sign(&self, root_hash: &RootHash) -> Result<RootHashSignature, Error> {
        let hash = self.certificate().key().hash();
        let digest = hash.digest(&root_hash.to_be_signed());
        let signature = self.sign_digest(hash, &digest)?;
        RootHashSignature::wrap(self.certificate(), hash, signature)
    }
}

#[cfg(test)]
mod tests {
    use ukikit_signing::PrivateKey;

    use super::*;
    use crate::vector;

    fn key_pair(name: &str) -> KeyPair {
        let key = PrivateKey::from_pem(&vector::key(&format!("{name}.key")), None).unwrap();
        let certificate = Certificate::from_pem(&vector::key(&format!("{name}.crt"))).unwrap();
        KeyPair::new(key, certificate).unwrap()
    }

    /// What systemd put into the signature partition of a vector.
    fn signed(name: &str) -> SignedRootHash {
        let image = vector::image(name);
        let start = image
            .windows(10)
            .position(|at| at == b"{\"rootHash")
            .unwrap();
        SignedRootHash::parse(&image[start..start + 16384]).unwrap()
    }

    #[test]
    fn rsa_signatures_are_openssls_byte_for_byte() {
        let theirs = signed("erofs");
        let ours = key_pair("rsa2048").sign(&theirs.root_hash);
        assert_eq!(ours.unwrap(), theirs.signature);
    }

    #[test]
    fn ecdsa_signatures_have_openssls_form_and_never_change() {
        let theirs = signed("erofs-p256");
        let pair = key_pair("p256");
        let value = signature_value(&theirs.signature);
        let wrapped = RootHashSignature::wrap(Signer::certificate(&pair), Hash::Sha256, value);
        assert_eq!(wrapped.unwrap(), theirs.signature);
        let ours = pair.sign(&theirs.root_hash).unwrap();
        assert_eq!(pair.sign(&theirs.root_hash).unwrap(), ours);
        let trusted = Certificates::new([pair.certificate().clone()]);
        check(&ours, &theirs.root_hash, &trusted).unwrap();
    }

    #[test]
    fn an_answer_is_taken_in_every_form_and_gives_the_same_bytes() {
        let theirs = signed("erofs-p256");
        let pair = key_pair("p256");
        let certificate = Signer::certificate(&pair);
        let der = signature_value(&theirs.signature);
        for answer in [theirs.signature.as_der(), &der, &plain(&der)] {
            let taken = RootHashSignature::of_answer(answer, &theirs.root_hash, certificate);
            assert_eq!(taken.unwrap(), theirs.signature);
        }
    }

    /// The two numbers of a P-256 signature one behind the other, out of DER.
    fn plain(der: &[u8]) -> Vec<u8> {
        let mut rest = &der[2..];
        let mut plain = Vec::new();
        while let [2, size, after @ ..] = rest {
            let (number, after) = after.split_at(usize::from(*size));
            let start = number.len().saturating_sub(32);
            plain.extend(std::iter::repeat_n(
                0,
                32_usize.saturating_sub(number.len()),
            ));
            plain.extend(&number[start..]);
            rest = after;
        }
        plain
    }

    #[test]
    fn an_answer_that_only_one_side_would_take_is_refused() {
        let theirs = signed("erofs");
        let certificate = Certificate::from_pem(&vector::key("rsa2048.crt")).unwrap();
        for (answer, reason) in [
            (
                b"-----BEGIN PKCS7-----\n".as_slice(),
                "signature: is PEM text; the kernel and systemd take only DER",
            ),
            (
                &[7; 256],
                "signature: is not over root hash HASH by the key of `CN=ddi test vector a rsa2048`",
            ),
        ] {
            let refused = RootHashSignature::of_answer(answer, &theirs.root_hash, &certificate);
            let reason = reason.replace("HASH", &theirs.root_hash.to_string());
            assert_eq!(refused.unwrap_err().to_string(), reason);
        }
    }

    fn signature_value(signature: &RootHashSignature) -> Vec<u8> {
        let signed = SignedData::from_der(signature.as_der()).unwrap();
        let signer = signed.signers().next().unwrap();
        signer.value().to_vec()
    }
}
