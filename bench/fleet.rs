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

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::identities;
use support::systemd::Systemd;
use tempfile::TempDir;

const HOSTS: u32 = 10_000;
const CALLS: u32 = 200;

fn main() {
    let place = TempDir::new().unwrap();
    write_fleet(place.path());
    let ours = Cost::of(encrypt(place.path()));
    ours.print("first run, all sealed", HOSTS);
    println!("  peak of memory {:.1} MiB", ours.peak_mib);
    Cost::of(encrypt(place.path())).print("second run, nothing changed", HOSTS);
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.machine("m1");
    room.write("plaintext", &[b'x'; 200]);
    let one = "systemd-creds encrypt --with-key=host --name=password plaintext out";
    let mut command = room.command("sh");
    command.args(["-ec", &format!("for i in $(seq {CALLS}); do {one}; done")]);
    let theirs = Cost::of(command);
    theirs.print("systemd-creds encrypt", CALLS);
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

/// What a run of a program cost, in seconds.
struct Cost {
    wall: f64,
    user: f64,
    system: f64,
    peak_mib: f64,
}

impl Cost {
    fn of(mut command: Command) -> Self {
        let (before, start) = (cpu_of_children(), Instant::now());
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut peak = 0;
        let status = loop {
            peak = peak_of(child.id()).unwrap_or(peak);
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => sleep(Duration::from_millis(5)),
            }
        };
        assert!(status.success(), "{command:?}: {status}");
        let after = cpu_of_children();
        Self {
            wall: start.elapsed().as_secs_f64(),
            user: after[0] - before[0],
            system: after[1] - before[1],
            peak_mib: f64::from(peak) / 1024.0,
        }
    }

    fn cpu(&self) -> f64 {
        self.user + self.system
    }

    fn print(&self, what: &str, credentials: u32) {
        let Self {
            wall, user, system, ..
        } = self;
        let each = 1e3 * self.cpu() / f64::from(credentials);
        println!(
            "{what}: {credentials} credentials, {wall:.2} s wall, CPU {user:.2} s user and {system:.2} s system, {each:.3} ms each"
        );
    }
}

/// User and system seconds of all children that were waited for (proc(5), cutime and cstime).
fn cpu_of_children() -> [f64; 2] {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The program's name, the second field, may hold anything.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    [13, 14].map(|field| f64::from(fields[field].parse::<u32>().unwrap()) / 100.0)
}

/// The most memory a running process has had, in KiB.
fn peak_of(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
