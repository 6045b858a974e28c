//! Any bytes as a host's identity: no panic. What is accepted reads back the same and can be sealed to.
#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use rand_core::{TryCryptoRng, TryRng};
use ukikit_creds::{Credential, HostIdentity, Key, PcrPolicy, Secret, Timestamp, TpmBinding};

fuzz_target!(|json: &[u8]| {
    let Ok(identity) = HostIdentity::from_json(json) else {
        return;
    };
    let again = HostIdentity::from_json(identity.to_json().as_bytes()).unwrap();
    assert_eq!(again, identity);
    for pinned in [true, false] {
        let Ok(parent) = identity.parent(pinned) else {
            continue;
        };
        let policy = PcrPolicy::default();
        let binding = TpmBinding { parent, policy };
        let time = Timestamp::from_micros(0);
        let credential = Credential::new(None, time, Secret::new(b"secret".to_vec()));
        // A key that is none, such as an RSA modulus of zero, is an error here.
        let _ = credential.encrypt(&Key::Tpm(&binding), &mut Counter(1));
    }
});

/// Numbers that are good enough for a test that must find the same thing twice.
struct Counter(u64);

impl TryRng for Counter {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| number as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        Ok(self.0 ^ (self.0 >> 33))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = (self.try_next_u64()? >> 24) as u8;
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}
