//! `ukikit trust` as a user meets it: add, rotate, withdraw, and what status says each time.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::uki::{initrd, pe_file};
use support::{run, succeed, text, ukikit, vector};
use tempfile::TempDir;

const OWN: &str = "EFI/Linux/vendor.efi.extra.d/extension-trust.addon.efi";

/// The life of a key: the old one, both, the new one alone, and the vendor's withdrawn as well.
#[test]
fn a_key_is_rotated() {
    let bench = Bench::new();
    let add = "trust add --esp=esp --uki=EFI/Linux/vendor.efi";
    let asked = ["p256", "p384", "rsa2048"];
    assert_eq!(bench.covered(&asked), ["no", "no", "yes"]);

    let first = bench.run(&format!("{add} KEYS/p256.crt"));
    assert!(first.contains(&format!("add      {OWN}")), "{first}");
    assert_eq!(bench.covered(&asked), ["yes", "no", "yes"]);
    bench.run(&format!("{add} KEYS/p384.crt"));
    assert_eq!(bench.covered(&asked), ["yes", "yes", "yes"]);
    assert_eq!(bench.generation(), 1);
    bench.run(&format!("{add} --withdraw=KEYS/p256.crt"));
    assert_eq!(bench.covered(&asked), ["no", "yes", "yes"]);
    assert_eq!(bench.generation(), 2);
    let hidden = bench.run(&format!("{add} --withdraw=KEYS/rsa2048.crt"));
    assert!(
        hidden.contains("hides    verity.d/vendor.crt\n"),
        "{hidden}"
    );
    assert_eq!(bench.covered(&asked), ["no", "yes", "no"]);
    assert_eq!(bench.generation(), 3);
}

#[test]
fn an_addon_that_is_no_longer_needed_goes() {
    let bench = Bench::new();
    bench.run("trust add --esp=esp --global KEYS/p256.crt");
    assert!(
        bench
            .path("esp/loader/addons/extension-trust.addon.efi")
            .exists()
    );
    assert_eq!(bench.covered(&["p256"]), ["yes"]);
    bench.run("trust add --esp=esp --global --withdraw=KEYS/p256.crt");
    assert!(
        !bench
            .path("esp/loader/addons/extension-trust.addon.efi")
            .exists()
    );
}

#[test]
fn a_dry_run_and_an_output_file_leave_the_esp_alone() {
    let bench = Bench::new();
    bench.run("trust add --esp=esp --uki=EFI/Linux/vendor.efi --dry-run KEYS/p256.crt");
    bench.run("trust add --esp=esp --uki=EFI/Linux/vendor.efi --output=t.addon.efi KEYS/p256.crt");
    assert!(!bench.path("esp").join(OWN).exists());
    let shown = bench.run("addon inspect t.addon.efi");
    assert!(
        shown.contains("initrd        /usr/lib/verity.d/ukikit-"),
        "{shown}"
    );
}

/// What Secure Boot, the command line and the kernel's configuration change.
#[test]
fn status_says_why() {
    let bench = Bench::new();
    bench.run("trust add --esp=esp --uki=EFI/Linux/vendor.efi KEYS/p256.crt");
    let status = "trust status --esp=esp --uki=EFI/Linux/vendor.efi --certificate=KEYS/p256.crt";
    let shown = bench.run(status);
    for line in [
        "UKI          EFI/Linux/vendor.efi, Secure Boot off\n",
        "             /usr/lib/verity.d/vendor.crt of the UKI\n",
        &format!("addon        {OWN}: taken\n"),
        "kernel       its keyrings are not known: the UKI has no configuration of its kernel\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let enforced = bench.run(&format!("{status} --secure-boot"));
    for line in [
        &format!("addon        {OWN}: it is not signed, which Secure Boot requires\n"),
        ": not merged, neither verity.d nor a given db has it\n",
    ] {
        assert!(enforced.contains(line), "{line:?} in {enforced}");
    }
    let mut config = "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG=y\nCONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING=y\n\
                      CONFIG_INTEGRITY_PLATFORM_KEYRING=y\n"
        .to_owned();
    fs::write(bench.path("config"), &config).unwrap();
    let through_db = format!("{status} --secure-boot --db=KEYS/p256.crt --kernel-config=config");
    let line = ": not merged, it is in db, but the kernel does not take those keys for dm-verity\n";
    assert!(bench.run(&through_db).contains(line));
    config += "CONFIG_LOAD_UEFI_KEYS=y\n";
    fs::write(bench.path("config"), &config).unwrap();
    let shown = bench.run(&through_db);
    assert!(
        shown.contains(": merged, by the kernel, through db\n"),
        "{shown}"
    );

    let off = "addon build --architecture=x86-64 --cmdline=systemd.allow_userspace_verity=no --output=off.addon.efi";
    bench.run(off);
    bench.run("esp place --esp=esp --uki=EFI/Linux/vendor.efi --force off.addon.efi");
    let shown = bench.run(status);
    for line in [
        "user space   off by systemd.allow_userspace_verity=, so verity.d has no effect\n",
        ": not merged, verity.d has it, but systemd.allow_userspace_verity= is off\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
}

/// With Secure Boot on an addon counts that is signed by a key of db, and as it was signed.
#[test]
fn addons_are_signed_as_they_are_made() {
    let bench = Bench::new();
    bench.run(
        "trust add --esp=esp --uki=EFI/Linux/vendor.efi --secureboot-private-key=KEYS/rsa2048.key \
         --secureboot-certificate=KEYS/rsa2048.crt KEYS/p256.crt",
    );
    let status = |db: &str| {
        let verb = "trust status --esp=esp --uki=EFI/Linux/vendor.efi --secure-boot";
        let shown = bench.run(&format!("{verb}{db}"));
        let line = shown.lines().find(|line| line.starts_with("addon "));
        line.unwrap().to_owned()
    };
    let addon = |what: &str| format!("addon        {OWN}: {what}");
    assert_eq!(status(""), addon("taken"));
    assert_eq!(status(" --db=KEYS/rsa2048.crt"), addon("taken"));
    let untrusted = addon("no given certificate of db is its signer's");
    assert_eq!(status(" --db=KEYS/p256.crt"), untrusted);
    let path = bench.path("esp").join(OWN);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|bytes| bytes == b"verity.d");
    bytes[at.unwrap()] = b'V';
    fs::write(&path, bytes).unwrap();
    assert_eq!(status(""), addon("it was changed after it was signed"));
}

/// The admin's approval of a kernel, and of the extensions beside it.
#[test]
fn a_kernel_is_approved() {
    let bench = Bench::new();
    let private = vector("ddi/keys/rsa2048.key").display().to_string();
    let public = bench.path("public.pem").display().to_string();
    run(
        "openssl",
        ["pkey", "-in", &private, "-pubout", "-out", &public],
    );
    let approve = "trust approve --esp=esp --uki=EFI/Linux/vendor.efi --private-key=KEYS/rsa2048.key --public-key=public.pem";
    let states = |arguments: &str| {
        let json: Value = serde_json::from_str(&bench.run(arguments)).unwrap();
        json["states"].clone()
    };
    let kernel = states(&format!("{approve} --json=short"));
    assert_eq!(kernel.as_array().unwrap().len(), 5);
    let addon = "esp/EFI/Linux/vendor.efi.extra.d/pcr-policy.addon.efi";
    let shown = bench.run(&format!("addon inspect {addon}"));
    assert!(
        shown.contains("initrd        /etc/systemd/tpm2-pcr-signature.json, "),
        "{shown}"
    );
    let first = fs::read(bench.path(addon)).unwrap();
    bench.run(approve);
    assert_eq!(
        fs::read(bench.path(addon)).unwrap(),
        first,
        "same kernel, same bytes"
    );

    // With extensions each state is approved in front of the separator and behind it; another image is another state.
    let with = format!("{approve} --extensions --dry-run --json=short");
    let none = states(&with);
    assert_eq!(none.as_array().unwrap().len(), 10);
    assert_eq!(none[0]["13"], "0".repeat(64));
    fs::write(
        bench.path("esp/EFI/Linux/vendor.efi.extra.d/a.raw"),
        "image",
    )
    .unwrap();
    let one = states(&with);
    assert_eq!(one[0]["11"], none[0]["11"]);
    assert_ne!(one[0]["13"], none[0]["13"]);

    let output = bench
        .command(&approve.replace("rsa2048.key", "other.key"))
        .output()
        .unwrap();
    assert!(text(&output.stderr).ends_with("other.key` and `public.pem` do not belong together\n"));
}

#[test]
fn mistakes_are_told_in_one_sentence() {
    let bench = Bench::new();
    fs::write(bench.path("text"), "text").unwrap();
    let old = bench.uki(b"#### LoaderInfo: systemd-stub 256 ####\0");
    fs::write(bench.path("esp/EFI/Linux/old.efi"), old).unwrap();
    for (arguments, expected) in [
        (
            "trust add --esp=esp --uki=EFI/Linux/old.efi KEYS/p256.crt",
            "`EFI/Linux/old.efi` would not use the addon: its .initrd section is read by systemd-stub 257 and later, \
             the UKI has 256",
        ),
        (
            "trust add --esp=esp --uki=EFI/Linux/vendor.efi text",
            "cannot use `text`: not a usable certificate: has no block `-----BEGIN CERTIFICATE-----`",
        ),
    ] {
        let output = bench.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert_eq!(text(&output.stderr), format!("error: {expected}\n"));
    }
    assert!(!bench.path("esp/EFI/Linux/old.efi.extra.d").exists());
}

/// An ESP with a UKI that trusts the vendor's key, rsa2048.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new().unwrap());
        fs::create_dir_all(bench.path("esp/EFI/Linux")).unwrap();
        let uki = bench.uki(b"#### LoaderInfo: systemd-stub 262 ####\0");
        fs::write(bench.path("esp/EFI/Linux/vendor.efi"), uki).unwrap();
        bench
    }

    fn uki(&self, stub: &[u8]) -> Vec<u8> {
        let vendor = fs::read(vector("ddi/keys/rsa2048.crt")).unwrap();
        let initrd = initrd(&[
            ("etc/os-release", b"ID=vendor\nVERSION_ID=1\n"),
            ("usr/lib/verity.d/vendor.crt", &vendor),
        ]);
        pe_file(&[
            (".linux", b"MZ"),
            (".sdmagic", stub),
            (".cmdline", b"quiet"),
            (".initrd", &initrd),
        ])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &str) -> Command {
        let keys = vector("ddi/keys").display().to_string();
        let mut command = ukikit();
        command.args(arguments.replace("KEYS", &keys).split(' '));
        command.current_dir(self.0.path());
        command
    }

    fn run(&self, arguments: &str) -> String {
        text(&succeed(
            arguments,
            self.command(arguments).output().unwrap(),
        ))
    }

    /// Whether the extensions of each signer would be merged.
    fn covered(&self, keys: &[&str]) -> Vec<String> {
        let mut arguments =
            "trust status --json=short --esp=esp --uki=EFI/Linux/vendor.efi".to_owned();
        for key in keys {
            arguments += &format!(" --certificate=KEYS/{key}.crt");
        }
        let json: Value = serde_json::from_str(&self.run(&arguments)).unwrap();
        let certificates = json["certificates"].as_array().unwrap().iter();
        certificates
            .map(|one| one["covered"].as_str().unwrap().to_owned())
            .collect()
    }

    fn generation(&self) -> u64 {
        let path = format!("esp/{OWN}");
        let json: Value =
            serde_json::from_str(&self.run(&format!("addon inspect --json=short {path}"))).unwrap();
        json["sbat"][1]["generation"].as_u64().unwrap()
    }
}
