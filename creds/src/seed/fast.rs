//! The exchange on NIST P-256 in assembly that is proven correct (s2n-bignum, through graviola): a fifth of the time, on the
//! processors that have its instructions. Elsewhere there is none, and the portable one serves.

use super::Exchange;

/// What [`super::exchange`] computes; `None` where this processor lacks an instruction.
#[cfg(target_arch = "x86_64")]
pub(super) fn exchange(own: &p256::SecretKey, key: &p256::PublicKey) -> Option<Exchange> {
    use graviola::key_agreement::p256::{PublicKey, StaticPrivateKey};
    use p256::elliptic_curve::sec1::ToSec1Point;
    use zeroize::Zeroizing;

    // It ends the program otherwise.
    if !graviola::util::is_cpu_supported() {
        return None;
    }
    let own = StaticPrivateKey::from_bytes(&Zeroizing::new(own.to_bytes())).ok()?;
    let key = PublicKey::from_x962_uncompressed(key.to_sec1_point(false).as_bytes()).ok()?;
    let public = own.public_key_uncompressed();
    let (x, y) = public.get(1..)?.split_at_checked(32)?;
    Some(Exchange {
        own: [x.to_vec(), y.to_vec()],
        shared: Zeroizing::new(own.diffie_hellman(&key).ok()?.0.to_vec()),
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn exchange(_: &p256::SecretKey, _: &p256::PublicKey) -> Option<Exchange> {
    None
}
