//! Any bytes as a host's identity: no panic. What is accepted is written the same as it was understood.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_creds::HostIdentity;

fuzz_target!(|json: &[u8]| {
    if let Ok(identity) = HostIdentity::from_json(json) {
        let again = HostIdentity::from_json(identity.to_json().as_bytes()).unwrap();
        assert_eq!(again, identity);
    }
});
