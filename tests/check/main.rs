//! `ukikit check` from outside: each rule finds the fault it is about and nothing else, and says nothing of good ESPs.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod evidence;
mod planted;
mod scene;

use std::fs;

use scene::{Feature, Scene, Vendor, binding, credential};
use support::text;
use ukikit_creds::{Key, PcrPolicy};
use ukikit_sysext::Scope;

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
