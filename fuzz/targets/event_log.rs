//! Any bytes as an event log: no panic, and every digest has the size of its bank.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_esp::EventLog;

fuzz_target!(|file: &[u8]| {
    let Ok(log) = EventLog::parse(file) else {
        return;
    };
    for event in &log.events {
        let _ = (event.description(), event.event());
    }
    for bank in log.banks() {
        let _ = log.value(12, bank);
    }
});
