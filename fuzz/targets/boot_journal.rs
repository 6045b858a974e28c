//! Any bytes as the journal of a boot: no panic, and no more text than bytes could hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit::journal::Journal;

fuzz_target!(|file: &[u8]| {
    if let Ok(journal) = Journal::parse(file) {
        let size: usize = journal.messages.iter().map(String::len).sum();
        // A byte that is not UTF-8 becomes three.
        assert!(size <= 3 * file.len());
    }
});
