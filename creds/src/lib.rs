//! Encrypt and decrypt systemd credentials, for this machine and for others.
//!
//! A credential is a small secret with a name and times, encrypted so that systemd hands it to a service, a generator or
//! itself. [`Credential`] is the plaintext side, [`EncryptedCredential`] the file, [`Key`] what stands between them.
//! The bytes are described in `docs/credential.md`; every type of systemd 250 to 262 is read and written.
//!
//! Sealing to a TPM is arithmetic on the public half of its storage key, so it needs no TPM and works for another machine.
//! Only [`tpm::Tpm::unseal`] and its neighbours talk to a chip, through one [`tpm::Transport`].
//!
//! The crate reads no clock, no environment and no random source: all come in as arguments.
//!
//! # Encrypt and open again
//!
//! ```
//! use rand_core::UnwrapErr;
//! use ukikit_creds::{Credential, Key, Keys, Requirements, Secret, Timestamp};
//!
//! # fn main() -> Result<(), ukikit_creds::Error> {
//! let mut rng = UnwrapErr(getrandom::SysRng);
//! let made = Timestamp::from_micros(1_700_000_000_000_000);
//! let credential = Credential::new(Some("greeting".parse()?), made, Secret::new(b"hello".to_vec()));
//! let file = credential.encrypt(&Key::Null, &mut rng)?;
//! assert_eq!(file.to_text(ukikit_creds::LINE).lines().count(), 2);
//!
//! let mut want = Requirements::any();
//! want.name = Some("greeting".parse()?);
//! want.allow_null = true;
//! let opened = file.decrypt(&mut Keys::default(), &want)?;
//! assert_eq!(opened.data.expose(), b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Seal for another machine
//!
//! ```
//! use rand_core::UnwrapErr;
//! use ukikit_creds::{Credential, HostIdentity, Key, PcrPolicy, Secret, Timestamp, TpmBinding};
//!
//! # fn main() -> Result<(), ukikit_creds::Error> {
//! # let identity_file = {
//! #     let public = include_bytes!("../../tests/vectors/creds/tpm/a.srk.pub");
//! #     let public = ukikit_creds::PublicArea::from_sized(public)?;
//! #     let mut identity = HostIdentity::default();
//! #     identity.storage_root_key = Some(ukikit_creds::StorageRootKey { handle: ukikit_creds::STORAGE_ROOT_HANDLE, public });
//! #     identity.to_json()
//! # };
//! // What `ukikit tpm identity` wrote on that machine.
//! let identity = HostIdentity::from_json(identity_file.as_bytes())?;
//! let binding = TpmBinding { parent: identity.parent(true)?, policy: PcrPolicy::default() };
//!
//! let made = Timestamp::from_micros(1_700_000_000_000_000);
//! let credential = Credential::new(Some("fstab.extra".parse()?), made, Secret::new(b"/dev/sda1 / ext4\n".to_vec()));
//! let file = credential.encrypt(&Key::Tpm(&binding), &mut UnwrapErr(getrandom::SysRng))?;
//! assert_eq!(file.kind().with_key(), "tpm2");
//! # Ok(())
//! # }
//! ```

mod boot_policy;
pub mod catalog;
mod challenge;
mod cipher;
mod content;
mod credential;
mod encrypted;
mod endorsement;
mod error;
mod format;
mod host;
mod identity;
mod kdf;
mod key;
mod machine;
mod pcr;
mod pcr_values;
mod policy;
mod public;
mod seal;
mod secret;
mod seed;
mod signature;
mod text;
pub mod tpm;
mod wrapper;

pub use boot_policy::{BootFacts, BootPolicy};
pub use challenge::{Answer, Challenge, StorageKey};
pub use content::{Content, Violation};
pub use credential::{Credential, Name, PLAINTEXT_MAX, Requirements, Scope, Timestamp};
pub use encrypted::{DescribedTpm, Description, ENCRYPTED_MAX, EncryptedCredential, Keys};
pub use endorsement::{EndorsementArea, EndorsementKey, EndorsementKind, EndorsementTemplate};
pub use error::{Error, FormatError};
pub use host::{HOST_SECRET_PATH, HostSecret};
pub use identity::HostIdentity;
pub use key::{Key, Kind};
pub use machine::MachineId;
pub use pcr::{PcrBank, PcrMask, PcrWish, SignedPcrWish};
pub use pcr_values::PcrValues;
pub use policy::{PcrPolicy, PolicyKey, SignedPolicy};
pub use public::{Algorithm, PublicArea, Template};
pub use seal::{
    Parent, STORAGE_ROOT_HANDLE, Sealed, SealedBlob, SealedTo, SignedPcrs, StorageRootKey,
    TpmBinding,
};
pub use secret::Secret;
pub use signature::{PUBLIC_KEY_FILE, PcrSignatures, SEARCH_PATH, SIGNATURE_FILE};
pub use text::{Encoding, LINE, UNIT_LINE};
