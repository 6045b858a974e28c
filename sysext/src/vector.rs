//! The images of `tests/vectors`, for the tests beside the code.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/vectors/ddi")
        .join(name)
}

/// The image `tiny-a.raw` that is kept below `name`.
pub(crate) fn image(name: &str) -> Vec<u8> {
    let file = File::open(path(name).join("tiny-a.raw.xz")).unwrap();
    let mut image = Vec::new();
    liblzma::read::XzDecoder::new(file)
        .read_to_end(&mut image)
        .unwrap();
    image
}

/// A file below `keys`.
pub(crate) fn key(name: &str) -> Vec<u8> {
    std::fs::read(path("keys").join(name)).unwrap()
}
