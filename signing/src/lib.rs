//! Keys, certificates and PKCS#7: what the signatures of extension images and of PE files have in common.
//!
//! A [`KeySource`] signs a digest; where its private half lives is its own affair. With its [`Certificate`]
//! it makes a [`KeyPair`], whose signatures go into [`SignedData`].
//!
//! ```
//! use ukikit_signing::{Certificate, KeyPair, PrivateKey, SignedData};
//!
//! # let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/ddi/keys");
//! # let (key, certificate) = (
//! #     std::fs::read(format!("{keys}/p256.key")).unwrap(),
//! #     std::fs::read(format!("{keys}/p256.crt")).unwrap(),
//! # );
//! let pair = KeyPair::new(
//!     PrivateKey::from_pem(&key, None)?,
//!     Certificate::from_pem(&certificate)?,
//! )?;
//! let hash = pair.certificate().key().hash();
//! let signature = pair.sign_digest(hash, &hash.digest(b"what is signed"))?;
//! let pkcs7 = SignedData::detached(pair.certificate(), hash, signature)?.to_der()?;
//!
//! let read = SignedData::from_der(&pkcs7).unwrap();
//! let signer = read.signers().next().unwrap();
//! assert!(signer.verifies(pair.certificate().key(), b"what is signed"));
//! # Ok::<(), ukikit_signing::Error>(())
//! ```

mod certificate;
mod content;
mod error;
mod hash;
mod key_pair;
mod pem;
mod private_key;
mod public_key;
mod signed_data;
#[cfg(feature = "pkcs11")]
mod token;
mod token_uri;
#[cfg(test)]
mod vector;

pub use certificate::{Certificate, Certificates, Date};
pub use content::{Attributes, Content};
pub use error::Error;
pub use hash::Hash;
pub use key_pair::{KeyPair, KeySource};
pub use private_key::PrivateKey;
pub use public_key::PublicKey;
pub use signed_data::{SignatureAlgorithm, SignedBy, SignedData};
#[cfg(feature = "pkcs11")]
pub use token::TokenKey;
pub use token_uri::TokenUri;
