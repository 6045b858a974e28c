//! KDFa and KDFe, the TPM's two key derivations with SHA-256 (TPM 2.0 Library, part 1, 11.4.10).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes derived, wiped on drop.
pub(crate) type Derived<const N: usize> = Zeroizing<[u8; N]>;

/// HMAC-SHA-256 over `parts` in turn.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any size"));
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256 over `parts` in turn.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// N bytes (at most 32) from `key`, for `label` (without its NUL) and two contexts.
pub(crate) fn kdf_a<const N: usize>(key: &[u8], label: &str, u: &[u8], v: &[u8]) -> Derived<N> {
    let block = Zeroizing::new(hmac_sha256(
        key,
        &[
            &1u32.to_be_bytes(),
            label.as_bytes(),
            &[0],
            u,
            v,
            &bits::<N>(),
        ],
    ));
    first(&block)
}

/// N bytes (at most 32) from the x-coordinate `z` of an ECDH, for `label` and the x-coordinates of both public keys.
pub(crate) fn kdf_e<const N: usize>(z: &[u8], label: &str, u: &[u8], v: &[u8]) -> Derived<N> {
    let block = Zeroizing::new(sha256(&[
        &1u32.to_be_bytes(),
        z,
        label.as_bytes(),
        &[0],
        u,
        v,
    ]));
    first(&block)
}

fn bits<const N: usize>() -> [u8; 4] {
    const { assert!(N <= 32, "one block of SHA-256") };
    u32::try_from(N * 8).unwrap_or_default().to_be_bytes()
}

fn first<const N: usize>(block: &[u8; 32]) -> Derived<N> {
    const { assert!(N <= 32, "one block of SHA-256") };
    let mut derived = Zeroizing::new([0; N]);
    for (to, from) in derived.iter_mut().zip(block) {
        *to = *from;
    }
    derived
}
