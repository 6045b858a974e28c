//! What sealing for a fleet costs, beside systemd-creds in the same run: `cargo bench --bench fleet`.
//!
//! 10,000 hosts with keys of their own get one credential of 200 bytes each. Beside it stand 200 calls of `systemd-creds
//! encrypt --with-key=host`, the cheapest it has, in a root that `UKIKIT_ROOT_262` names (`tests/run` makes one). CPU times are
//! the system's own, of finished children, in hundredths of a second; the peak of memory is read while the program runs.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what it shares with the tests is allowed this there"
)]

#[path = "../tests/support/mod.rs"]
mod support;

mod cost;

use std::fs;
use std::path::Path;
use std::process::Command;

use cost::Cost;
use support::identities;
use support::systemd::Systemd;
use tempfile::TempDir;

const HOSTS: u32 = 10_000;
const CALLS: u32 = 200;

fn main() {
    let place = TempDir::new().unwrap();
    write_fleet(place.path());
    let ours = Cost::of(encrypt(place.path()));
    print(&ours, "first run, all sealed", HOSTS);
    println!("  peak of memory {:.1} MiB", ours.peak_mib);
    let again = Cost::of(encrypt(place.path()));
    print(&again, "second run, nothing changed", HOSTS);
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.machine("m1");
    room.write("plaintext", &[b'x'; 200]);
    let one = "systemd-creds encrypt --with-key=host --name=password plaintext out";
    let mut command = room.command("sh");
    command.args(["-ec", &format!("for i in $(seq {CALLS}); do {one}; done")]);
    let theirs = Cost::of(command);
    print(&theirs, "systemd-creds encrypt", CALLS);
    let ratio = |cost: fn(&Cost) -> f64| {
        cost(&theirs) / f64::from(CALLS) / (cost(&ours) / f64::from(HOSTS))
    };
    println!(
        "systemd-creds / ukikit, each: CPU {:.1}, wall {:.1}",
        ratio(Cost::cpu),
        ratio(|cost| cost.wall)
    );
}

fn write_fleet(place: &Path) {
    let mut fleet =
        "[[credential]]\nname = \"password\"\nfile = \"secret\"\nbind = \"none\"\n".to_owned();
    fs::create_dir(place.join("hosts")).unwrap();
    fs::write(place.join("secret"), [b'x'; 200]).unwrap();
    for host in 0..HOSTS {
        fs::write(
            place.join(format!("hosts/{host}.json")),
            identities::made_up(host),
        )
        .unwrap();
        fleet += &format!("[[host]]\nname = \"h{host}\"\nidentity = \"hosts/{host}.json\"\n");
    }
    fs::write(place.join("FLEET.toml"), fleet).unwrap();
}

fn encrypt(place: &Path) -> Command {
    let mut command = support::ukikit();
    command
        .current_dir(place)
        .args(["fleet", "encrypt", "FLEET.toml", "--output=out"]);
    command
}

fn print(cost: &Cost, what: &str, credentials: u32) {
    let Cost {
        wall, user, system, ..
    } = cost;
    let each = 1e3 * cost.cpu() / f64::from(credentials);
    println!(
        "{what}: {credentials} credentials, {wall:.2} s wall, CPU {user:.2} s user and {system:.2} s system, {each:.3} ms each"
    );
}
