//! Any bytes as a manifest: no panic in reading it or in applying it to a tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_sysext::{Entry, Manifest, Tree};

fuzz_target!(|text: &[u8]| {
    let Ok(manifest) = Manifest::parse(text) else {
        return;
    };
    let mut tree = Tree::new();
    tree.insert("usr/bin/ping", Entry::file("elf")).unwrap();
    tree.insert("usr/bin/link", Entry::symlink("ping")).unwrap();
    if manifest.apply(&mut tree).is_ok() {
        // What is there now is what it says, so it can be said again.
        manifest.apply(&mut tree).unwrap();
    }
});
