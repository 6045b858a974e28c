//! Any bytes as the JSON of signed PCR policies: accepted or refused, no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_creds::PcrSignatures;

fuzz_target!(|json: &[u8]| {
    let _ = PcrSignatures::from_json(json);
});
