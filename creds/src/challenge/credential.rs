//! TPM2_MakeCredential as arithmetic on the public half of an endorsement key (TPM 2.0 Library, part 1, section 24).
//!
//! ```text
//! seed       = KDFe(ECDH(ephemeral, endorsement key), "IDENTITY")   or random bytes under RSA-OAEP
//! credential = outer wrapper (seed, name of the storage key, sized secret)
//! ```

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::endorsement::{EndorsementArea, Numbers};
use crate::error::Error;
use crate::public;
use crate::seed::{Purpose, Seed};
use crate::wrapper::wrap;

const LABEL: &str = "IDENTITY";

/// The contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
pub(super) fn make_credential(
    key: &EndorsementArea,
    name: &[u8],
    secret: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let (hash, label) = (key.template().hash(), LABEL);
    let purpose = Purpose { hash, label };
    let seed = match key.numbers() {
        Numbers::P256(key) => Seed::p256(key, purpose, rng),
        Numbers::P384(key) => Seed::p384(key, purpose, rng),
        Numbers::Rsa(key) => Seed::rsa(key, purpose, rng).map_err(|error| {
            Error::EndorsementKey(format!("its RSA key cannot be used ({error})"))
        })?,
    };
    let content = Zeroizing::new(public::sized(secret));
    Ok((wrap(hash, &seed.value, name, content), seed.encrypted))
}

#[cfg(test)]
mod tests {
    use rand_core::UnwrapErr;
    use rsa::Oaep;
    use rsa::pkcs8::DecodePrivateKey;
    use sha2::Sha256;

    use super::*;
    use crate::kdf::Hash;
    use crate::seed::recovered;

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

    /// The seed, as the owner of the private key recovers it.
    fn recovered_seed(kind: &str, encrypted: &[u8]) -> Vec<u8> {
        let purpose = |hash| Purpose { hash, label: LABEL };
        match kind {
            "p256" => {
                let own = p256::SecretKey::from_slice(&[7; 32]).unwrap();
                recovered(&own, purpose(Hash::Sha256), encrypted)
            }
            "p384" => {
                let own = p384::SecretKey::from_slice(&[7; 48]).unwrap();
                recovered(&own, purpose(Hash::Sha384), encrypted)
            }
            _ => {
                let pem = String::from_utf8(vector("ddi/keys/rsa2048.key")).unwrap();
                let key = rsa::RsaPrivateKey::from_pkcs8_pem(&pem).unwrap();
                let padding = Oaep::<Sha256>::new_with_label(b"IDENTITY\0".to_vec());
                key.decrypt(padding, encrypted).unwrap()
            }
        }
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
}
