//! EROFS, the read-only file system of Linux, as an image without any compression is written and any image read.

mod reader;
mod writer;

pub use reader::read;
pub use writer::{Options, write};
