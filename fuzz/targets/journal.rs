//! Any bytes as the journal of a change: no panic, and what is read is written as what is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_ne!(ukikit_esp::journal_round_trip(bytes), Some(false));
});
