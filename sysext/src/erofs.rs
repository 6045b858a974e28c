//! EROFS, the read-only file system of Linux, written and read as an image.

mod compress;
mod data;
mod directory;
mod facts;
mod format;
mod image;
mod index;
mod inode;
mod layout;
mod output;
mod packed;
mod pieces;
mod reader;
#[cfg(test)]
mod tests;
mod writer;
mod xattr;

pub use compress::Compression;
pub use facts::Facts;
pub(crate) use output::Output;
pub use reader::read;
pub(crate) use writer::{BUFFER, write_to};
pub use writer::{Options, write};
