//! Any bytes as a file of PCR values: no panic. What is accepted gives the values that are asked for, each of its bank's size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_creds::catalog::Reader;
use ukikit_creds::{PcrBank, PcrValues, PcrWish};

fuzz_target!(|json: &[u8]| {
    for reader in [Reader::Manager, Reader::Service] {
        let Ok(values) = PcrValues::from_json(json, reader) else {
            continue;
        };
        for bank in PcrBank::ALL {
            let mut wish: PcrWish = format!("7:{bank}").parse().unwrap();
            if wish.take_from(&values).is_ok() {
                let value = wish.values[&7].as_ref().unwrap();
                assert_eq!(value.len(), bank.digest_size());
            }
        }
    }
});
