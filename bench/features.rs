//! What it costs to read a vendor's initrd and to make an extension for it: `cargo bench --bench features`.
//!
//! On the roots and the lab that `tests/run --full` makes, named by `UKIKIT_ROOT_FEATURES_262` and `UKIKIT_FEATURE_LAB_262`. Readers of
//! initrds on one core, five runs each, in turn; medians. Needs root, and unmkinitramfs of initramfs-tools-core.

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
use std::path::{Path, PathBuf};
use std::process::Command;

use cost::Cost;
use support::systemd::Systemd;
use tempfile::TempDir;

const RUNS: usize = 5;

fn main() {
    let Some(systemd) = Systemd::with_features(262) else {
        return;
    };
    let Some(lab) = support::setting("UKIKIT_FEATURE_LAB_262") else {
        support::skip("features: no lab, tests/run --full makes one");
        return;
    };
    let bench = Bench {
        root: systemd.root().to_owned(),
        lab: lab.into(),
        place: TempDir::new_in(systemd.root().join("tmp")).unwrap(),
    };
    let initrd = bench.place.path().join("initrd.img");
    fs::copy(bench.lab.join("initrd.img"), &initrd).unwrap();
    let size = fs::metadata(&initrd).unwrap().len();
    println!("an initrd of {size} bytes; medians of {RUNS} runs");
    let mut costs: Vec<Vec<Cost>> = Contest::ALL.iter().map(|_| Vec::new()).collect();
    for run in 0..=RUNS {
        for (costs, contest) in costs.iter_mut().zip(Contest::ALL) {
            let cost = Cost::of(bench.command(contest));
            // The first fills the page cache.
            if run > 0 {
                costs.push(cost);
            }
        }
    }
    for (contest, costs) in Contest::ALL.iter().zip(&costs) {
        let (cpu, wall) = (median(costs, Cost::cpu), median(costs, |cost| cost.wall));
        let peak = median(costs, |cost| cost.peak_mib);
        let written = bench.written(*contest);
        let written = written.map(|size| format!(", {size} bytes"));
        println!(
            "{:48} CPU {cpu:.2} s, {wall:.2} s wall, {peak:.0} MiB{}",
            contest.name(),
            written.unwrap_or_default()
        );
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contest {
    Inspect,
    List,
    Unpack,
    Iscsi,
    Driver,
}

impl Contest {
    const ALL: [Self; 5] = [
        Self::Inspect,
        Self::List,
        Self::Unpack,
        Self::Iscsi,
        Self::Driver,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Inspect => "reading: ukikit uki inspect",
            Self::List => "reading: lsinitrd",
            Self::Unpack => "reading: unmkinitramfs",
            Self::Iscsi => "ukikit ext build --recipe=network --recipe=iscsi",
            Self::Driver => "ukikit ext build --kernel-module=vmw_pvscsi",
        }
    }
}

struct Bench {
    root: PathBuf,
    lab: PathBuf,
    /// Within the root, so that its programs see it.
    place: TempDir,
}

impl Bench {
    fn command(&self, contest: Contest) -> Command {
        match contest {
            Contest::Inspect => {
                let program = support::ukikit().get_program().to_owned();
                let mut inspect = one_core(Path::new(&program));
                inspect.args(["uki", "inspect"]);
                inspect.arg(self.lab.join("vendor.efi"));
                inspect
            }
            Contest::List => {
                let mut list = one_core(Path::new("chroot"));
                let inside = self.place.path().strip_prefix(&self.root).unwrap();
                let initrd = Path::new("/").join(inside).join("initrd.img");
                list.arg(&self.root).arg("lsinitrd").arg(initrd);
                list
            }
            Contest::Unpack => {
                let mut unpack = one_core(Path::new("unmkinitramfs"));
                unpack.arg(self.place.path().join("initrd.img"));
                unpack.arg(self.place.path().join("unpacked"));
                unpack
            }
            Contest::Iscsi => self.build("iscsi", &["--recipe=network", "--recipe=iscsi"]),
            Contest::Driver => self.build("driver", &["--kernel-module=vmw_pvscsi"]),
        }
    }

    fn build(&self, name: &str, source: &[&str]) -> Command {
        let mut build = support::ukikit();
        build.args(["ext", "build", "--name", name]).args(source);
        for (option, path) in [
            ("uki", self.lab.join("vendor.efi")),
            ("root", self.root.clone()),
            ("private-key", support::vector("ddi/keys/rsa2048.key")),
            ("certificate", support::vector("ddi/keys/rsa2048.crt")),
            ("output", self.image(name)),
        ] {
            build.arg(format!("--{option}={}", path.display()));
        }
        build
    }

    fn image(&self, name: &str) -> PathBuf {
        self.place.path().join(format!("{name}.sysext.raw"))
    }

    fn written(&self, contest: Contest) -> Option<u64> {
        let name = match contest {
            Contest::Iscsi => "iscsi",
            Contest::Driver => "driver",
            _ => return None,
        };
        Some(fs::metadata(self.image(name)).unwrap().len())
    }
}

fn one_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(program);
    command
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
