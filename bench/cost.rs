//! What a program costs that is run to its end.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a run of a program cost, in seconds.
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) peak_mib: f64,
}

impl Cost {
    /// Runs it to its end, which has to be a good one.
    pub(crate) fn of(mut command: Command) -> Self {
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

    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
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
