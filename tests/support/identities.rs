//! Identities of hosts that do not exist, each with storage keys of its own.

use p256::elliptic_curve::sec1::ToSec1Point;
use ukikit_creds::{HostIdentity, PublicArea, STORAGE_ROOT_HANDLE, StorageRootKey};

use super::vector;

/// TPMT_PUBLIC of an ECC storage key up to its attributes, from there to its point.
const AREA: [&[u8]; 2] = [
    &[0, 0x23, 0, 0x0b],
    &[0, 0, 0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10, 0, 0x03, 0, 0x10],
];
const LEGACY: [u8; 4] = [0, 3, 0, 0x72];
const STORAGE_ROOT: [u8; 4] = [0, 3, 4, 0x72];

/// The identity of the host with this number. The same number gives the same keys.
pub(crate) fn made_up(number: u32) -> String {
    let mut identity = HostIdentity::default();
    identity.legacy_parent = Some(public(LEGACY, 2 * number + 1));
    let public = public(STORAGE_ROOT, 2 * number + 2);
    let handle = STORAGE_ROOT_HANDLE;
    identity.storage_root_key = Some(StorageRootKey { handle, public });
    identity.to_json()
}

fn public(attributes: [u8; 4], scalar: u32) -> PublicArea {
    let mut secret = [0; 32];
    secret[28..].copy_from_slice(&scalar.to_be_bytes());
    let point = p256::SecretKey::from_slice(&secret)
        .unwrap()
        .public_key()
        .to_sec1_point(false);
    let point = point.as_bytes();
    let area = [
        AREA[0],
        &attributes,
        AREA[1],
        &[0, 32],
        &point[1..33],
        &[0, 32],
        &point[33..],
    ]
    .concat();
    PublicArea::parse(&area).unwrap()
}

/// The identity of the software TPM with the saved state `a` or `b` of the vectors.
pub(crate) fn of_vector(state: &str) -> String {
    let read = |key: &str| {
        let file = vector(&format!("creds/tpm/{state}.{key}.pub"));
        PublicArea::from_sized(&std::fs::read(file).unwrap()).unwrap()
    };
    let mut identity = HostIdentity::default();
    identity.legacy_parent = Some(read("legacy-ecc"));
    let (handle, public) = (STORAGE_ROOT_HANDLE, read("srk"));
    identity.storage_root_key = Some(StorageRootKey { handle, public });
    identity.to_json()
}
