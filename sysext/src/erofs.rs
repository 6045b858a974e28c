//! EROFS, the read-only file system of Linux, as an image without any compression is written and any image read.

mod directory;
mod format;
mod layout;
mod reader;
#[cfg(test)]
mod tests;
mod writer;
mod xattr;

pub use reader::read;
pub use writer::{Options, write};
