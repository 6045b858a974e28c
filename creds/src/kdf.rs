//! KDFa and KDFe, the TPM's two key derivations (TPM 2.0 Library, part 1, 11.4.10), and the hashes below them.

use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha2::digest::Output;
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

/// Bytes derived, wiped on drop.
pub(crate) type Derived<const N: usize> = Zeroizing<[u8; N]>;

/// HMAC-SHA-256 over `parts` in turn.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    hmac::<Sha256>(key, parts).into()
}

/// SHA-256 over `parts` in turn.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    digest::<Sha256>(parts).into()
}

/// N bytes (at most 32) from `key`, for `label` (without its NUL) and two contexts.
pub(crate) fn kdf_a<const N: usize>(key: &[u8], label: &str, u: &[u8], v: &[u8]) -> Derived<N> {
    Hash::Sha256.kdf_a(key, label, u, v)
}

fn first<const N: usize>(block: &[u8]) -> Derived<N> {
    let mut derived = Zeroizing::new([0; N]);
    for (to, from) in derived.iter_mut().zip(block) {
        *to = *from;
    }
    derived
}

/// The hash of a key's name, known only when the program runs. Storage keys have SHA-256, endorsement keys one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
}

impl Hash {
    /// The TCG's algorithm id.
    pub(crate) const fn id(self) -> u16 {
        match self {
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    /// Bytes in a digest.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    /// The digest of `parts` in turn.
    pub(crate) fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => sha256(parts).to_vec(),
            Self::Sha384 => digest::<Sha384>(parts).to_vec(),
        }
    }

    /// HMAC over `parts` in turn.
    pub(crate) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => hmac::<Sha256>(key, parts).to_vec(),
            Self::Sha384 => hmac::<Sha384>(key, parts).to_vec(),
        }
    }

    /// N bytes (at most 32) from `key`, for `label` (without its NUL) and two contexts.
    pub(crate) fn kdf_a<const N: usize>(
        self,
        key: &[u8],
        label: &str,
        u: &[u8],
        v: &[u8],
    ) -> Derived<N> {
        const { assert!(N <= 32, "one block of either hash") };
        first(&self.kdf_a_block(key, label, u, v, N))
    }

    /// One digest for the HMAC of the outer wrapper.
    pub(crate) fn integrity_key(self, seed: &[u8]) -> Zeroizing<Vec<u8>> {
        self.kdf_a_block(seed, "INTEGRITY", &[], &[], self.size())
    }

    /// The first block of KDFa for `size` bytes in all: their number goes into it.
    fn kdf_a_block(
        self,
        key: &[u8],
        label: &str,
        u: &[u8],
        v: &[u8],
        size: usize,
    ) -> Zeroizing<Vec<u8>> {
        let bits = u32::try_from(size * 8).unwrap_or_default().to_be_bytes();
        let parts = [&FIRST_BLOCK, label.as_bytes(), &[0], u, v, &bits];
        Zeroizing::new(self.hmac(key, &parts))
    }

    /// One digest from the x-coordinate `z` of an ECDH, for `label` and the x-coordinates of both public keys.
    pub(crate) fn kdf_e(self, z: &[u8], label: &str, u: &[u8], v: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.digest(&[&FIRST_BLOCK, z, label.as_bytes(), &[0], u, v]))
    }
}

/// Both derivations count their blocks from 1; one block is all that is ever asked for here.
const FIRST_BLOCK: [u8; 4] = 1u32.to_be_bytes();

fn digest<D: Digest>(parts: &[&[u8]]) -> Output<D> {
    let mut hash = D::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize()
}

fn hmac<D: EagerHash>(key: &[u8], parts: &[&[u8]]) -> Output<Hmac<D>> {
    let mut mac = <Hmac<D> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any size"));
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes()
}
