//! `Seed`: a value that only the owner of a TPM key learns, and the form in which it travels to the TPM (TPM 2.0 Library, part 1,
//! annexes B.10.3 and C.6.1).
//!
//! ```text
//! NIST curves   value = KDFe(ECDH(ephemeral, key), label, ephemeral x, key x)   travels as the ephemeral point
//! RSA           value = as many random bytes as the hash has                   travels in OAEP under the label
//! ```

mod fast;

use p256::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p256::elliptic_curve::{
    AffinePoint, CurveArithmetic, FieldBytes, FieldBytesSize, PublicKey, SecretKey, ecdh,
};
use rand_core::CryptoRng;
use rsa::{Oaep, RsaPublicKey};
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use crate::kdf::Hash;
use crate::public;

/// One digest's worth of secret.
pub(crate) struct Seed {
    pub(crate) value: Zeroizing<Vec<u8>>,
    /// Content of TPM2B_ENCRYPTED_SECRET.
    pub(crate) encrypted: Vec<u8>,
}

/// How a TPM derives the value: the hash of the key's name, and what the value is for, in the TPM's own words.
#[derive(Clone, Copy)]
pub(crate) struct Purpose {
    pub(crate) hash: Hash,
    pub(crate) label: &'static str,
}

impl Seed {
    /// Takes from `rng`: the ephemeral key, 32 bytes.
    pub(crate) fn p256(
        key: &p256::PublicKey,
        purpose: Purpose,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let own = ephemeral_key(rng);
        let exchange = fast::exchange(&own, key).unwrap_or_else(|| exchange(&own, key));
        Self::agreed(&exchange, &coordinates(key)[0], purpose)
    }

    /// Takes from `rng`: the ephemeral key, 48 bytes.
    pub(crate) fn p384(
        key: &p384::PublicKey,
        purpose: Purpose,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Self {
        let own = ephemeral_key(rng);
        Self::agreed(&exchange(&own, key), &coordinates(key)[0], purpose)
    }

    fn agreed(exchange: &Exchange, key_x: &[u8], Purpose { hash, label }: Purpose) -> Self {
        let Exchange {
            own: [x, y],
            shared,
        } = exchange;
        Self {
            value: hash.kdf_e(shared, label, x, key_x),
            encrypted: [public::sized(x), public::sized(y)].concat(),
        }
    }

    /// Takes from `rng`: the value, one digest's size, then what OAEP takes.
    ///
    /// # Errors
    ///
    /// For a key that is none, such as one with an even modulus.
    pub(crate) fn rsa(
        key: &RsaPublicKey,
        Purpose { hash, label }: Purpose,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> rsa::Result<Self> {
        let mut value = Zeroizing::new(vec![0; hash.size()]);
        rng.fill_bytes(&mut value);
        // The label is hashed with its terminating NUL.
        let label = [label.as_bytes(), &[0]].concat();
        let encrypted = match hash {
            Hash::Sha256 => key.encrypt(rng, Oaep::<Sha256>::new_with_label(label), &value),
            Hash::Sha384 => key.encrypt(rng, Oaep::<Sha384>::new_with_label(label), &value),
        };
        Ok(Self {
            value,
            encrypted: encrypted?,
        })
    }
}

/// What Diffie and Hellman give one side. Coordinates have the curve's full size.
struct Exchange {
    /// x and y of the own public key.
    own: [Vec<u8>; 2],
    /// x of the point that both sides compute.
    shared: Zeroizing<Vec<u8>>,
}

fn exchange<C>(own: &SecretKey<C>, key: &PublicKey<C>) -> Exchange
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    let shared = ecdh::diffie_hellman(own.to_nonzero_scalar(), key.as_affine());
    Exchange {
        own: coordinates(&own.public_key()),
        shared: Zeroizing::new(shared.raw_secret_bytes().to_vec()),
    }
}

/// A key from random bytes; those that are no scalar of the curve are drawn again.
fn ephemeral_key<C>(rng: &mut (impl CryptoRng + ?Sized)) -> SecretKey<C>
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

/// x and y.
fn coordinates<C>(key: &PublicKey<C>) -> [Vec<u8>; 2]
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    let point = key.to_sec1_point(false);
    let coordinate =
        |value: Option<&FieldBytes<C>>| value.map(|bytes| bytes.to_vec()).unwrap_or_default();
    [coordinate(point.x()), coordinate(point.y())]
}

/// The seed of an elliptic curve, as the owner of the private key recovers it.
#[cfg(test)]
pub(crate) fn recovered<C>(own: &SecretKey<C>, purpose: Purpose, encrypted: &[u8]) -> Vec<u8>
where
    C: CurveArithmetic,
    FieldBytesSize<C>: ModulusSize,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
{
    let (x, rest) = public::unsized_prefix(encrypted).unwrap();
    let point = [&[4], x, public::unsized_whole(rest).unwrap()].concat();
    let ephemeral = PublicKey::<C>::from_sec1_bytes(&point).unwrap();
    let shared = exchange(own, &ephemeral).shared;
    let own_x = &coordinates(&own.public_key())[0];
    let Purpose { hash, label } = purpose;
    hash.kdf_e(&shared, label, x, own_x).to_vec()
}

#[cfg(test)]
mod tests {
    use rand_core::UnwrapErr;

    use super::*;

    #[test]
    fn the_owner_of_the_key_learns_the_value() {
        let rng = &mut UnwrapErr(getrandom::SysRng);
        let purpose = |hash| Purpose {
            hash,
            label: "DUPLICATE",
        };
        let own: p256::SecretKey = ephemeral_key(rng);
        let made = Seed::p256(&own.public_key(), purpose(Hash::Sha256), rng);
        let found = recovered(&own, purpose(Hash::Sha256), &made.encrypted);
        assert_eq!(*made.value, found);
        let own: p384::SecretKey = ephemeral_key(rng);
        let made = Seed::p384(&own.public_key(), purpose(Hash::Sha384), rng);
        let found = recovered(&own, purpose(Hash::Sha384), &made.encrypted);
        assert_eq!(*made.value, found);
    }

    /// The fast way, where there is one, and the portable one are the same function.
    #[test]
    fn both_implementations_agree() {
        let rng = &mut UnwrapErr(getrandom::SysRng);
        for _ in 0..100 {
            let own: p256::SecretKey = ephemeral_key(rng);
            let key = ephemeral_key::<p256::NistP256>(rng).public_key();
            let slow = exchange(&own, &key);
            if let Some(fast) = fast::exchange(&own, &key) {
                assert_eq!(fast.own, slow.own);
                assert_eq!(*fast.shared, *slow.shared);
            }
        }
    }
}
