//! The keys of `tests/vectors`, for the tests beside the code.

/// A file of `tests/vectors/ddi/keys`.
pub(crate) fn key(name: &str) -> Vec<u8> {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/ddi/keys");
    std::fs::read(format!("{keys}/{name}")).unwrap()
}
