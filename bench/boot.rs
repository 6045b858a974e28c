//! What knowing before the reboot costs, beside the hash of the same bytes: `cargo bench --bench boot`.
//!
//! An ESP with one UKI of 50 MB - a kernel, and an initrd of 2,000 files compressed with zstd - and ten companions: five
//! credentials, five signed extensions of 1 MB. Five runs each, in turn; medians.

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

#[path = "../tests/check/scene.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod scene;

mod cost;

use std::process::Command;

use cost::Cost;
use scene::{Feature, Scene, Vendor, binding, credential};
use sha2::{Digest, Sha256};
use support::pe;
use ukikit_creds::{Key, PcrPolicy};
use ukikit_sysext::initrd::{self, Packing};

const RUNS: usize = 5;
const KERNEL: usize = 15_000_000;
const FILES: usize = 2_000;
const FILE: usize = 17_000;
const IMAGES: [&str; 5] = ["one", "two", "three", "four", "five"];
const UKI: &str = "EFI/Linux/vendor.efi";

fn main() {
    let scene = Scene::new();
    write_esp(&scene);
    let size = std::fs::metadata(scene.path("esp").join(UKI))
        .unwrap()
        .len();
    println!("a UKI of {size} bytes and ten companions; medians of {RUNS} runs");
    let mut costs: [Vec<Cost>; 4] = Default::default();
    for run in 0..=RUNS {
        for (costs, contest) in costs.iter_mut().zip(contests(&scene)) {
            let cost = Cost::of(contest);
            // The first fills the page cache.
            if run > 0 {
                costs.push(cost);
            }
        }
    }
    let names = [
        "check",
        "predict, four banks",
        "predict, sha256",
        "sha256sum of the ESP",
    ];
    for (name, costs) in names.into_iter().zip(&costs) {
        let (cpu, wall) = (median(costs, Cost::cpu), median(costs, |cost| cost.wall));
        let peak = median(costs, |cost| cost.peak_mib);
        println!("{name:22} CPU {cpu:.2} s, {wall:.2} s wall, {peak:.0} MiB");
    }
}

fn contests(scene: &Scene) -> [Command; 4] {
    let ukikit = |arguments: &[&str]| {
        let mut command = support::ukikit();
        command.current_dir(scene.path("")).args(arguments);
        command
    };
    let predict = format!("--uki={UKI}");
    let mut floor = Command::new("sh");
    floor.current_dir(scene.path("esp"));
    floor.args(["-c", "find . -type f -exec sha256sum {} +"]);
    [
        ukikit(&["check", "--esp=esp"]),
        ukikit(&["predict", "--esp=esp", &predict]),
        ukikit(&["predict", "--esp=esp", &predict, "--bank=sha256"]),
        floor,
    ]
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes that do not compress, another lot for each seed.
fn noise(seed: usize, size: usize) -> Vec<u8> {
    let blocks = (0..size.div_ceil(32)).map(|block| Sha256::digest(format!("{seed} {block}")));
    let mut noise: Vec<u8> = blocks.flat_map(Vec::from).collect();
    noise.truncate(size);
    noise
}

/// Half of it compresses, as programs do.
fn program(seed: usize, size: usize) -> Vec<u8> {
    let mut program = noise(seed, size);
    program.extend(vec![b' '; size]);
    program
}

fn write_esp(scene: &Scene) {
    let vendor = Vendor {
        with: (0..FILES)
            .map(|at| (format!("usr/lib/programs/{at}"), program(at, FILE)))
            .collect(),
        ..Vendor::default()
    };
    let tree = initrd::read(&vendor.initrd()).unwrap();
    let initrd = initrd::write(&tree, Packing::Zstd { level: 3 }).unwrap();
    let uki = pe::addon(&[
        (".osrel", b"ID=vendor\nVERSION_ID=1\n"),
        (".cmdline", b"quiet"),
        (".initrd", &initrd),
        (".uname", scene::KERNEL.as_bytes()),
        (".linux", &noise(FILES, KERNEL)),
    ]);
    scene.write(UKI, uki);
    let sealed = binding("a", true, PcrPolicy::default());
    for (at, name) in IMAGES.into_iter().enumerate() {
        let content = credential(name, &Key::Tpm(&sealed));
        scene.own("vendor", &format!("{name}.cred"), content);
        let path = ["usr/a", "usr/b", "usr/c", "usr/d", "usr/e"][at];
        let image = Feature::new(name).file(path, program(at, 500_000));
        scene.own("vendor", &format!("{name}.sysext.raw"), image.build());
    }
}
