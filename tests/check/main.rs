//! `ukikit check` from outside: each rule finds the fault it is about and nothing else, and says nothing of good ESPs.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod evidence;
mod planted;
mod scene;

use std::fs;

use scene::{Feature, Scene, Vendor, binding, credential};
use serde_json::{Value, json};
use support::{schema, text};
use ukikit_creds::{Key, PcrPolicy};
use ukikit_sysext::erofs::Compression;
use ukikit_sysext::initrd::{self, Packing};
use ukikit_sysext::{Entry, Scope, Tree};

/// An ESP as it should be: sealed credentials, signed extensions, an addon, an entry, a boot counter.
fn good() -> Scene {
    let scene = Scene::new();
    scene.write("EFI/Linux/a+3-0.efi", Vendor::default().uki_file());
    let sealed = binding("a", true, PcrPolicy::default());
    for name in ["fstab.extra", "my.secret"] {
        let file = format!("{name}.cred");
        scene.own("a", &file, credential(name, &Key::Tpm(&sealed)));
    }
    scene.own("a", "feature.sysext.raw", feature("feature").build());
    scene.write("loader/extensions/other.raw", feature("other").build());
    let addon = support::pe::addon(&[
        (".cmdline", b"splash"),
        (".uname", scene::KERNEL.as_bytes()),
    ]);
    scene.own("a", "quiet.addon.efi", addon);
    scene.write(
        "loader/entries/a.conf",
        "uki /EFI/Linux/a.efi\nextra /tok/more.cred\n",
    );
    scene.write("tok/more.cred", credential("more", &Key::Tpm(&sealed)));
    scene
}

/// One that starts a service as it should.
fn feature(name: &'static str) -> Feature {
    Feature::new(name)
        .field("EXTENSION_RELOAD_MANAGER", "1")
        .file(
            "usr/lib/systemd/system/systemd-sysext-initrd.service.d/50-no-reload.conf",
            "[Service]\nExecStop=\nExecStop=systemd-sysext unmerge --no-reload\n",
        )
        .file(
            "usr/lib/systemd/system/f.target",
            "[Unit]\nWants=f.service\n",
        )
        .link(
            "usr/lib/systemd/system/sysinit.target.upholds/f.target",
            "../f.target",
        )
}

#[test]
fn a_good_esp_has_no_findings() {
    let scene = good();
    assert_eq!(
        scene.findings(&["--esp=esp", "--secure-boot"]),
        [(
            "addon-ignored".to_owned(),
            "EFI/Linux/a.efi.extra.d/quiet.addon.efi".to_owned()
        )]
    );
    let output = scene.check(&["--esp=esp"]);
    assert_eq!(text(&output.stdout), "0 errors, 0 warnings, 0 notes\n");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_error_is_said_with_its_remedy_and_fails() {
    let scene = good();
    let mut foreign = Feature::new("wide");
    foreign.scope = Scope::System;
    scene.own("a", "wide.raw", foreign.build());
    let output = scene.check(&["--esp=esp", "--uki=EFI/Linux/a.efi"]);
    assert_eq!(
        text(&output.stdout),
        "error: EFI/Linux/a.efi.extra.d/wide.raw: systemd skips it in the initrd without a word: it has SYSEXT_SCOPE=system \
         [image-scope]\n  with: EFI/Linux/a.efi, loader/entries/a.conf\n  \
         remedy: build it with SYSEXT_SCOPE=initrd, or CONFEXT_SCOPE=initrd\n1 errors, 0 warnings, 0 notes\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// What is handed over, imported and merged, as a value for programs.
#[test]
fn how_each_boot_will_go_is_told() {
    let scene = good();
    scene.own("a", "broken.sysext.raw", b"no image");
    let output = scene.check(&["--esp=esp", "--model", "--json=short"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_valid("check", &said);
    let boots = said["boots"].as_array().unwrap();
    assert_eq!(boots.len(), 2);
    let (found, entry) = (&boots[0], &boots[1]);
    assert_eq!(found["boot"], "EFI/Linux/a+3-0.efi");
    assert_eq!(found["commandLine"], "quiet splash");
    let column = |boot: &Value, of: &str, member: &str| -> Vec<Value> {
        let rows = boot[of].as_array().unwrap().iter();
        rows.map(|row| row[member].clone()).collect()
    };
    let kinds = ["credentials", "extensions", "global-extensions"];
    assert_eq!(column(found, "archives", "kind"), kinds);
    assert_eq!(column(found, "archives", "pcr"), [12, 13, 13]);
    let names = ["fstab.extra", "my.secret"];
    assert_eq!(column(found, "credentials", "name"), names);
    assert_eq!(
        column(found, "extensions", "name"),
        ["broken", "feature", "other"]
    );
    let outcomes = ["refused", "dragged-down", "dragged-down"];
    assert_eq!(column(found, "extensions", "outcome"), outcomes);
    assert_eq!(found["files"], json!({}));
    assert_eq!(entry["boot"], "loader/entries/a.conf");
    let names = ["fstab.extra", "more", "my.secret"];
    assert_eq!(column(entry, "credentials", "name"), names);

    fs::remove_file(scene.path("esp/EFI/Linux/a.efi.extra.d/broken.sysext.raw")).unwrap();
    let output = scene.check(&[
        "--esp=esp",
        "--uki=EFI/Linux/a.efi",
        "--model",
        "--json=short",
    ]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = &said["boots"][0]["files"];
    // Both have it: the upper layer's counts.
    assert_eq!(
        files["usr/lib/systemd/system/f.target"],
        "loader/extensions/other.raw"
    );
    let output = scene.check(&["--rules", "--json=short"]);
    schema::assert_valid("check", &serde_json::from_slice(&output.stdout).unwrap());
}

/// A kernel mounts no image with an algorithm it was built without, and then nothing is merged.
#[test]
fn a_codec_the_kernel_lacks_keeps_all_out() {
    let scene = Scene::new();
    let module = format!("usr/lib/modules/{}/kernel/fs/erofs/erofs.ko", scene::KERNEL);
    for (uki, calls) in [
        ("both", "LZ4_decompress_safe\0zstd_init_dstream"),
        ("one", "LZ4_decompress_safe"),
    ] {
        let vendor = Vendor {
            with: vec![(module.clone(), format!("\x7fELF\0{calls}\0").into_bytes())],
            ..Vendor::default()
        };
        scene.uki(uki, &vendor);
    }
    let mut packed = Feature::new("packed").file("usr/share/text", vec![b'x'; 100_000]);
    packed.compression = Compression::ZSTD;
    scene.write("loader/extensions/packed.raw", packed.build());
    scene.write("loader/extensions/plain.raw", Feature::new("plain").build());
    let row = |rule: &str, file: &str| (rule.to_owned(), format!("loader/extensions/{file}.raw"));
    let found = scene.findings(&["--esp=esp"]);
    assert_eq!(
        found,
        [row("all-or-nothing", "plain"), row("image-codec", "packed")]
    );
    assert_eq!(
        scene.findings(&["--esp=esp", "--uki=EFI/Linux/both.efi"]),
        []
    );
}

/// The initrd of an addon is unpacked over that of the UKI; with Secure Boot an unsigned one is not.
#[test]
fn trust_that_an_addon_brings_counts() {
    let scene = good();
    let mut foreign = Feature::new("foreign");
    foreign.signer = "other";
    scene.own("a", "foreign.raw", foreign.build());
    let mut tree = Tree::new();
    let certificate = fs::read(support::vector("ddi/keys/other.crt")).unwrap();
    let path = "usr/lib/verity.d/other.crt";
    tree.insert(path, Entry::file(certificate)).unwrap();
    let initrd = initrd::write(&tree, Packing::None).unwrap();
    scene.own(
        "a",
        "trust.addon.efi",
        support::pe::addon(&[(".initrd", &initrd)]),
    );
    assert_eq!(scene.findings(&["--esp=esp"]), []);
    let rules: Vec<String> = scene
        .findings(&["--esp=esp", "--secure-boot"])
        .into_iter()
        .map(|(rule, _)| rule)
        .collect();
    let [ignored, all, untrusted] = ["addon-ignored", "all-or-nothing", "image-untrusted"];
    assert_eq!(rules, [ignored, ignored, all, all, untrusted]);
}

#[test]
fn a_directory_is_checked_without_an_esp() {
    let scene = Scene::new();
    let directory = scene.path("release");
    fs::create_dir(&directory).unwrap();
    let write = |name: &str, content: Vec<u8>| fs::write(directory.join(name), content).unwrap();
    write("feature.sysext.raw", feature("feature").build());
    write("renamed.sysext.raw", feature("feature").build());
    write("UPPER.CRED", Vec::new());
    let mut untrusted = Feature::new("untrusted");
    untrusted.signer = "other";
    write("untrusted.raw", untrusted.build());
    fs::write(scene.path("vendor.efi"), Vendor::default().uki_file()).unwrap();
    let row = |rule: &str, file: &str| (rule.to_owned(), file.to_owned());
    let alone = [
        row("all-or-nothing", "feature.sysext.raw"),
        row("all-or-nothing", "untrusted.raw"),
        row("image-release-file", "renamed.sysext.raw"),
        row("suffix-case", "UPPER.CRED"),
    ];
    assert_eq!(scene.findings(&["release"]), alone);
    let with_base = [
        row("all-or-nothing", "feature.sysext.raw"),
        row("image-release-file", "renamed.sysext.raw"),
        row("image-untrusted", "untrusted.raw"),
        row("suffix-case", "UPPER.CRED"),
    ];
    assert_eq!(scene.findings(&["release", "--base=vendor.efi"]), with_base);
}

#[test]
fn wrong_usage_and_what_cannot_be_read_are_said() {
    let scene = Scene::new();
    assert_eq!(scene.check(&[]).status.code(), Some(2));
    for (arguments, expected) in [
        (
            &["--esp=nowhere"][..],
            "error: cannot read `nowhere`: No such file or directory\n",
        ),
        (
            &["--esp=esp", "--uki=EFI/Linux/a.efi"],
            "error: there is no UKI `EFI/Linux/a.efi` on the ESP `esp`\n",
        ),
        (
            &["nowhere"],
            "error: cannot read `nowhere`: No such file or directory\n",
        ),
    ] {
        let output = scene.check(arguments);
        assert_eq!(text(&output.stderr), expected);
        assert_eq!(output.status.code(), Some(1));
    }
}
