//! Any bytes as a network-config: no panic, and every interface can be named in a file of systemd-networkd.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit::first_boot::Networks;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(networks) = Networks::parse(bytes) {
        for network in &networks.interfaces {
            assert!(network.name.is_some() || network.mac_address.is_some());
        }
    }
});
