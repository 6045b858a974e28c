//! The outer wrapper of TPM 2.0 Library, part 1, 23.3 and 24: content that only who knows a seed reads, bound to a name.
//!
//! ```text
//! encrypted = AES-CFB(KDFa(seed, "STORAGE", name), content), zero IV
//! wrapped   = sized HMAC(KDFa(seed, "INTEGRITY"), encrypted | name) | encrypted
//! ```
//!
//! Objects to import and challenges to an endorsement key have it in common.

use aes::{Aes128, Aes256};
use cfb_mode::cipher::KeyIvInit;
use zeroize::Zeroizing;

use crate::kdf::Hash;
use crate::public;

/// Wraps `content` for the object called `name`, as the key whose names have `hash` unwraps it.
///
/// In every template there is, SHA-256 goes with AES-128 and SHA-384 with AES-256.
pub(crate) fn wrap(
    hash: Hash,
    seed: &[u8],
    name: &[u8],
    mut content: Zeroizing<Vec<u8>>,
) -> Vec<u8> {
    match hash {
        Hash::Sha256 => {
            let key = hash.kdf_a::<16>(seed, "STORAGE", name, &[]);
            cfb_mode::Encryptor::<Aes128>::new((&*key).into(), &[0; 16].into())
                .encrypt(&mut content);
        }
        Hash::Sha384 => {
            let key = hash.kdf_a::<32>(seed, "STORAGE", name, &[]);
            cfb_mode::Encryptor::<Aes256>::new((&*key).into(), &[0; 16].into())
                .encrypt(&mut content);
        }
    }
    let outer = hash.hmac(&hash.integrity_key(seed), &[&content, name]);
    [&public::sized(&outer)[..], &content].concat()
}
