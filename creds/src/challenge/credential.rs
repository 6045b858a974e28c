//! TPM2_MakeCredential as arithmetic on the public half of an endorsement key (TPM 2.0 Library, part 1, section 24).
//!
//! ```text
//! seed       = KDFe(ECDH(ephemeral, endorsement key), "IDENTITY")   or random bytes under RSA-OAEP
//! credential = outer wrapper (seed, name of the storage key, sized secret)
//! ```

use p256::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p256::elliptic_curve::{
    AffinePoint, CurveArithmetic, FieldBytes, FieldBytesSize, PublicKey, SecretKey, ecdh,
};
use rand_core::CryptoRng;
use rsa::{Oaep, RsaPublicKey};
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use crate::endorsement::{EndorsementArea, Numbers};
use crate::error::Error;
use crate::kdf::Hash;
use crate::public;
use crate::wrapper::wrap;

const LABEL: &str = "IDENTITY";

/// The contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
pub(super) fn make_credential(
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
    let mut scalar = Zeroizing::new(FieldBytes::<C>::default());
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
    let coordinate =
        |value: Option<&FieldBytes<C>>| value.map(|bytes| bytes.to_vec()).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use rand_core::UnwrapErr;
    use rsa::pkcs8::DecodePrivateKey;

    use super::*;

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
}
