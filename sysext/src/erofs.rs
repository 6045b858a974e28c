//! EROFS, the read-only file system of Linux, written and read as an image.

mod compress;
mod data;
mod directory;
mod format;
mod image;
mod index;
mod inode;
mod layout;
mod packed;
mod pieces;
mod reader;
#[cfg(test)]
mod tests;
mod writer;
mod xattr;

pub use compress::Compression;
pub use reader::read;
pub use writer::{Options, write};
