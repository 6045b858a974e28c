//! `ukikit explain` from outside: what it makes of the evidence a boot leaves behind.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use support::{event_log, schema, text, ukikit};

/// An ESP with two credentials for a UKI that is not there, and what a boot of it left.
struct Scene(TempDir);

const UKI: &str = "--uki=EFI/Linux/a.efi";
const ONE: &str = "EFI/Linux/a.efi.extra.d/one.cred";
const TWO: &str = "EFI/Linux/a.efi.extra.d/two.cred";

impl Scene {
    fn new() -> Self {
        let scene = Self(TempDir::new().unwrap());
        let companions = scene.path("esp/EFI/Linux/a.efi.extra.d");
        fs::create_dir_all(companions).unwrap();
        fs::create_dir(scene.path("imported")).unwrap();
        for (name, content) in [(ONE, "b25l"), (TWO, "dHdv")] {
            fs::write(scene.path("esp").join(name), content).unwrap();
            scene.record();
        }
        for name in ["one", "two"] {
            fs::write(scene.path("imported").join(name), "").unwrap();
        }
        scene.journal("{\"MESSAGE\":\"Reached target Basic System.\"}\n");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The event log of a boot with the files as they are.
    fn record(&self) {
        let esp = format!("--esp={}", self.path("esp").display());
        let arguments = ["predict", &esp, UKI, "--json=short"];
        let said = ukikit().args(arguments).output().unwrap();
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        let events = said["events"].as_array().unwrap().iter().map(|event| {
            let pcr = u32::try_from(event["pcr"].as_u64().unwrap()).unwrap();
            let digest = event["digests"]["sha256"].as_str().unwrap();
            (pcr, event["description"].as_str().unwrap(), unhex(digest))
        });
        fs::write(self.path("eventlog"), event_log::write(events)).unwrap();
    }

    fn journal(&self, content: &str) {
        fs::write(self.path("journal"), content).unwrap();
    }

    fn explain(&self, more: &[&str]) -> Output {
        let mut explain = ukikit();
        explain.args(["explain", UKI]);
        for (option, path) in [
            ("esp", "esp"),
            ("eventlog", "eventlog"),
            ("journal", "journal"),
            ("imported", "imported"),
        ] {
            explain.arg(format!("--{option}={}", self.path(path).display()));
        }
        explain.args(more).output().unwrap()
    }

    fn assert_told(&self, expected: &str, status: i32) {
        let output = self.explain(&[]);
        assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(status));
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

#[test]
fn a_boot_that_went_as_expected() {
    let scene = Scene::new();
    let told = format!(
        "ok       {ONE}: imported, as at that boot\nok       {TWO}: imported, as at that boot\n\
         2 companions, 0 otherwise than expected\n"
    );
    scene.assert_told(&told, 0);
    let output = scene.explain(&["--json=short"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_valid("explain", &said);
    assert_eq!(said["companions"][0]["measured"], "as-predicted");
    assert_eq!(said["difference"], Value::Null);
}

#[test]
fn what_was_placed_since_is_told_from_what_was_there() {
    let scene = Scene::new();
    fs::remove_file(scene.path("esp").join(TWO)).unwrap();
    scene.record();
    fs::write(scene.path("esp").join(TWO), "dHdv").unwrap();
    fs::remove_file(scene.path("imported/two")).unwrap();
    let told = format!(
        "differs  {ONE}: imported, and at that boot it was taken; it was measured with other content\n\
         differs  {TWO}: imported, but at that boot it was not taken; it was measured with other content\n\
         event 1 of PCR 12 is `Credentials initrd`, of other content than at that boot: without {TWO} it would be the same\n\
         2 companions, 2 otherwise than expected\n"
    );
    scene.assert_told(&told, 1);
}

#[test]
fn the_journal_says_why() {
    let scene = Scene::new();
    let line = "Embedded credential name 'other' does not match filename 'two.cred', refusing.";
    scene.journal(&format!(
        "[    7.1] localhost systemd[1]: Nothing about one.\n[    7.2] localhost (lab)[9]: {line}\n\
         [    7.3] localhost (lab)[9]: Failed to set up credentials: Protocol error\n"
    ));
    let told = format!(
        "ok       {ONE}: imported, as at that boot\n\
         differs  {TWO}: imported, and at that boot it was taken\n           {line}\n\
         journal: Failed to set up credentials: Protocol error\n\
         2 companions, 1 otherwise than expected\n"
    );
    scene.assert_told(&told, 1);
}

#[test]
fn evidence_of_nothing_is_refused() {
    let scene = Scene::new();
    scene.journal("{}");
    let journal = scene.path("journal");
    let output = scene.explain(&[]);
    let sentence = format!(
        "error: cannot use `{}`: there is no message of a journal in it\n",
        journal.display()
    );
    assert_eq!(text(&output.stderr), sentence);
    assert_eq!(output.status.code(), Some(1));
    let none = ukikit()
        .args(["explain", "--journal=/dev/null/x"])
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(1));
}
