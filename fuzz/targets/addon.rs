//! Any bytes as an addon: no panic; what is found good is read, and comes back from what is made of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_esp::{AddonImage, AddonTarget, check_addon};

fuzz_target!(|file: &[u8]| {
    let good = check_addon(file, &AddonTarget::default()).is_empty();
    let Ok(addon) = AddonImage::parse(file) else {
        return;
    };
    if let Ok(made) = addon.to_bytes() {
        assert_eq!(AddonImage::parse(&made).unwrap(), addon);
        assert!(!good || check_addon(&made, &AddonTarget::default()).is_empty());
    }
});
