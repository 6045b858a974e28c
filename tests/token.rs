//! Keys on a PKCS#11 token, SoftHSM's: images and PE files are signed without the key leaving it.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use support::{skip, text, ukikit, vector};
use tempfile::TempDir;

/// Where Debian has it.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const KEYS: [&str; 3] = ["rsa2048", "p256", "p384"];

#[test]
fn images_and_pe_files_are_signed_on_the_token() {
    let Some(bench) = Bench::new() else { return };
    for name in KEYS {
        let uri = bench.uri(name, "&pin-source=file:pin");
        bench.run(&format!("ext build {IMAGE} {uri} --output=demo.raw"));
        bench.run(&format!(
            "ext verify --certificate=KEYS/{name}.crt demo.raw"
        ));
        if name.starts_with("rsa") {
            let by_token = fs::read(bench.path("demo.raw")).unwrap();
            bench.run(&format!(
                "ext build {IMAGE} --private-key=KEYS/{name}.key --certificate=KEYS/{name}.crt --output=demo.raw"
            ));
            assert!(fs::read(bench.path("demo.raw")).unwrap() == by_token);
        }
        let uri = bench.uri(name, "");
        bench.run(&format!(
            "pe sign {uri} --passphrase-file=pin --output=signed.efi boot.efi"
        ));
        bench.run(&format!(
            "pe verify --certificate=KEYS/{name}.crt signed.efi"
        ));
    }
}

#[test]
fn mistakes_get_one_sentence() {
    let Some(bench) = Bench::new() else { return };
    fs::write(bench.path("wrong"), "0000\n").unwrap();
    let with = |uri: &str| format!("--private-key={uri} --certificate=KEYS/p256.crt");
    for (key, expected) in [
        (
            with(&format!(
                "pkcs11:token=ukikit;object=p256?module-path={MODULE}"
            )) + " --passphrase-file=wrong",
            "cannot use the key on the token: the PIN is wrong\n",
        ),
        (
            with(&format!("pkcs11:token=other?module-path={MODULE}")) + " --passphrase-file=pin",
            "cannot use the key on the token: no token fits the URI\n",
        ),
        (
            with(&format!(
                "pkcs11:token=ukikit;object=none?module-path={MODULE}"
            )) + " --passphrase-file=pin",
            "cannot use the key on the token: no private key fits the URI\n",
        ),
        (
            with(&format!("pkcs11:token=ukikit?module-path={MODULE}")) + " --passphrase-file=pin",
            "cannot use the key on the token: 3 private keys fit the URI\n",
        ),
        (
            with("pkcs11:token=ukikit?module-path=/none.so") + " --passphrase-file=pin",
            "cannot use the key on the token: cannot load the module `/none.so`: ",
        ),
        (
            with(&format!(
                "pkcs11:token=ukikit;object=p256?module-path={MODULE}"
            )),
            "the token needs its PIN\n\nhint: there is no terminal to ask on: give --passphrase-file=, or pin-source= in the URI\n",
        ),
        (
            with(&format!(
                "pkcs11:token=ukikit;object=rsa2048?module-path={MODULE}"
            )) + " --passphrase-file=pin",
            "do not belong together: the private key (RSA-2048, ",
        ),
    ] {
        let output = bench.start(&format!("ext build {IMAGE} {key} --output=demo.raw"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{key}");
        assert!(said.contains(expected), "{said}");
        assert!(!bench.path("demo.raw").exists(), "{key}");
    }
}

const IMAGE: &str = "--name=demo --tree=tree --architecture=x86-64";

/// A directory with a small tree, a PE file and a token that holds the keys of the vectors.
struct Bench(TempDir);

impl Bench {
    /// `None`, said aloud, without SoftHSM.
    fn new() -> Option<Self> {
        if !PathBuf::from(MODULE).exists() {
            skip("keys on tokens: SoftHSM is not installed");
            return None;
        }
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(bench.path("tree/usr/lib/demo")).unwrap();
        fs::create_dir(bench.path("tokens")).unwrap();
        fs::write(bench.path("tree/usr/lib/demo/file"), "content\n").unwrap();
        fs::write(bench.path("pin"), "1234\n").unwrap();
        fs::write(
            bench.path("boot.efi"),
            support::pe::addon(&[(".cmdline", b"quiet")]),
        )
        .unwrap();
        let tokens = bench.path("tokens");
        fs::write(
            bench.path("softhsm2.conf"),
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\n",
                tokens.display()
            ),
        )
        .unwrap();
        bench.softhsm("--init-token --free --label ukikit --pin 1234 --so-pin 5678");
        for (name, id) in KEYS.into_iter().zip(["01", "02", "03"]) {
            bench.softhsm(&format!(
                "--import KEYS/{name}.key --token ukikit --label {name} --id {id} --pin 1234"
            ));
        }
        Some(bench)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// Key and certificate as options.
    fn uri(&self, name: &str, more: &str) -> String {
        format!(
            "--private-key=pkcs11:token=ukikit;object={name}?module-path={MODULE}{more} --certificate=KEYS/{name}.crt"
        )
    }

    fn softhsm(&self, arguments: &str) {
        let output = self.command(Command::new("softhsm2-util"), arguments);
        support::succeed("softhsm2-util", output);
    }

    fn command(&self, mut command: Command, arguments: &str) -> Output {
        let keys = vector("ddi/keys");
        let arguments = arguments.replace("KEYS", keys.to_str().unwrap());
        command
            .args(arguments.split_whitespace())
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    fn start(&self, arguments: &str) -> Output {
        self.command(support::without_terminal(ukikit()), arguments)
    }

    fn run(&self, arguments: &str) -> Output {
        let output = self.start(arguments);
        assert!(
            output.status.success(),
            "{arguments}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        output
    }
}
