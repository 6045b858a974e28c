//! What the targets share: what can be asked of every tree, and whom they trust.

#![allow(dead_code, reason = "every target uses another part")]

use ukikit_sysext::{Kind, Tree};

/// Reads all files, each up to a limit: a tree that was accepted may refuse its data, but must not panic on it.
pub fn read_everything(tree: &Tree) {
    const LIMIT: usize = 1 << 20;
    for (_, _, entry) in tree.inodes() {
        if let Kind::File(content) = &entry.kind {
            let _ = content.read(LIMIT);
        }
    }
}

/// Whom the targets trust.
pub const CERTIFICATE: &[u8] = include_bytes!("../../tests/vectors/ddi/keys/rsa2048.crt");

/// Their key, to make what they start from.
pub const PRIVATE_KEY: &[u8] = include_bytes!("../../tests/vectors/ddi/keys/rsa2048.key");
