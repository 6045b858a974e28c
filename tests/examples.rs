//! The three example programs, run as their users would: administrator, packager, first-boot agent. Each is small, on public API alone.

#![cfg(test)]

#[allow(dead_code, reason = "a scene can do more than the examples need")]
#[path = "check/scene.rs"]
mod scene;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use scene::{Scene, Vendor};
use support::swtpm::Swtpm;
use support::{identities, run, succeed, text};

/// Beside the built program, where cargo puts examples.
fn example(name: &str, scene: &Scene, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_BIN_EXE_ukikit")).with_file_name(format!("examples/{name}"));
    let mut program = Command::new(&path);
    program.args(arguments).current_dir(scene.path(""));
    program.output().unwrap_or_else(|error| {
        panic!(
            "`cargo build --example {name}` makes {}: {error}",
            path.display()
        )
    })
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.uki("vendor", &Vendor::default());
    scene
}

const UKI: &str = "EFI/Linux/vendor.efi";
const NOW: &str = "1700000000";

#[test]
fn the_administrators_program_seals_places_checks_and_predicts() {
    let scene = scene();
    fs::write(scene.path("web1.toml"), "hostname = \"web1\"\n").unwrap();
    fs::write(scene.path("web1.json"), identities::of_vector("a")).unwrap();
    let arguments = ["esp", UKI, "web1.toml", "web1.json", NOW];
    let first = text(&succeed("admin", example("admin", &scene, &arguments)));
    let place = format!("{UKI}.extra.d/system.hostname.cred");
    assert!(first.starts_with(&format!("add      {place} (")), "{first}");
    let pcr12 = |output: &str| output.lines().last().unwrap().to_owned();
    assert_eq!(pcr12(&first).len(), "PCR 12 ".len() + 64);
    let second = text(&succeed("admin", example("admin", &scene, &arguments)));
    assert!(second.starts_with(&format!("keep     {place}")), "{second}");
    assert_eq!(pcr12(&second), pcr12(&first));
}

#[test]
fn the_packagers_program_builds_what_its_uki_takes() {
    let scene = scene();
    fs::create_dir_all(scene.path("tree/usr/share")).unwrap();
    fs::write(scene.path("tree/usr/share/greeting"), "hello\n").unwrap();
    let (key, certificate) = (scene.path("key"), scene.path("crt"));
    let openssl =
        "req -x509 -newkey rsa:2048 -nodes -subj /CN=signer -days 3650 -keyout KEY -out CRT";
    let words = openssl.split(' ').map(|word| match word {
        "KEY" => key.to_str().unwrap(),
        "CRT" => certificate.to_str().unwrap(),
        word => word,
    });
    run("openssl", words);
    let uki = format!("esp/{UKI}");
    let arguments = [
        "greeting",
        "tree",
        &uki,
        "key",
        "crt",
        "greeting.sysext.raw",
    ];
    let said = text(&succeed(
        "packager",
        example("packager", &scene, &arguments),
    ));
    assert!(said.starts_with("greeting.sysext.raw "), "{said}");
    let mut verify = support::ukikit();
    verify.args(["ext", "verify", "--certificate=crt", "greeting.sysext.raw"]);
    verify
        .arg(format!("--base={uki}"))
        .current_dir(scene.path(""));
    succeed("verify", verify.output().unwrap());
}

#[test]
fn the_agents_program_seals_once() {
    let scene = scene();
    let tpm = Swtpm::start("a");
    fs::create_dir(scene.path("seed")).unwrap();
    fs::write(
        scene.path("seed/user-data"),
        "#cloud-config\nhostname: web1\n",
    )
    .unwrap();
    fs::write(scene.path("seed/meta-data"), "instance-id: i-1\n").unwrap();
    let device = tpm.device();
    let arguments = ["seed", "esp", UKI, &device, "state", NOW];
    let first = text(&succeed(
        "first-boot",
        example("first-boot", &scene, &arguments),
    ));
    assert!(
        first.starts_with(&format!("add      {UKI}.extra.d/system.hostname.cred (")),
        "{first}"
    );
    let second = text(&succeed(
        "first-boot",
        example("first-boot", &scene, &arguments),
    ));
    assert_eq!(second, "instance i-1 is applied already\n");
}

#[test]
fn each_has_less_than_sixty_lines() {
    for name in ["admin", "packager", "first-boot"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/{name}.rs"));
        let lines = fs::read_to_string(path).unwrap().lines().count();
        assert!(lines < 60, "{name}: {lines} lines");
    }
}
