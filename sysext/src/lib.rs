//! Signed extension images.

pub mod erofs;
mod error;
pub mod initrd;
pub mod squashfs;
mod tree;
mod window;

pub use error::{Error, FormatError};
pub use tree::{Content, ContentReader, Entry, Kind, Tree, is_portable_xattr};
pub use window::Window;
