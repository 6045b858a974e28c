//! Encrypt and decrypt systemd credentials, sealing to a TPM by arithmetic.

mod boot_policy;
pub mod catalog;
mod cipher;
mod credential;
mod encrypted;
mod error;
mod format;
mod host;
mod identity;
mod kdf;
mod key;
mod machine;
mod pcr;
mod policy;
mod public;
mod seal;
mod secret;
mod signature;
mod text;
pub mod tpm;

pub use boot_policy::{BootFacts, BootPolicy};
pub use credential::{Credential, Name, PLAINTEXT_MAX, Requirements, Scope, Timestamp};
pub use encrypted::{DescribedTpm, Description, ENCRYPTED_MAX, EncryptedCredential, Keys};
pub use error::{Error, FormatError};
pub use host::{HOST_SECRET_PATH, HostSecret};
pub use identity::HostIdentity;
pub use key::{Key, Kind};
pub use machine::MachineId;
pub use pcr::{PcrBank, PcrMask, PcrWish};
pub use policy::{PcrPolicy, PolicyKey, SignedPolicy};
pub use public::{Algorithm, PublicArea, Template};
pub use seal::{
    Parent, STORAGE_ROOT_HANDLE, Sealed, SealedBlob, SealedTo, SignedPcrs, StorageRootKey,
    TpmBinding,
};
pub use secret::Secret;
pub use signature::{PUBLIC_KEY_FILE, PcrSignatures, SEARCH_PATH, SIGNATURE_FILE};
pub use text::{Encoding, LINE, UNIT_LINE};
