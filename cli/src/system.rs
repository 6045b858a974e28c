//! Where the program touches the machine: clock, randomness, environment. Opened here only.

use std::time::{SystemTime, UNIX_EPOCH};

use rand_core::{CryptoRng, UnwrapErr};

/// The wall clock, in microseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub(crate) fn now_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The kernel's random source. Nothing can be encrypted without it: its failure ends the program.
pub(crate) fn random() -> impl CryptoRng {
    UnwrapErr(getrandom::SysRng)
}

/// A variable of the environment, `None` when unset or not UTF-8.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
