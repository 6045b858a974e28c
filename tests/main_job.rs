//! The example `main-job`, run as a newcomer would: its exact report, and what then stands on the boot partition.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// With the place, the hashes and the storage root key left out.
const REPORT: &str = "\
The initrd of EFI/Linux/vendor.efi will get

fstab.extra, a credential
  file     /.extra/credentials/fstab.extra.cred, 782 bytes
  then     /run/credentials/@encrypted/fstab.extra
  for      a generator, before any unit starts
  opens    in the TPM of web1 alone, for systemd 262 and later
  key      HEX

hello.sysext.raw, an extension
  file     /.extra/sysext/hello.sysext.raw, 49664 bytes
  merged   into /usr, signed by whom the initrd trusts
  hash     HEX
  starts   hello.target, once sysinit.target is reached

iscsi.password, a credential
  file     /.extra/credentials/iscsi.password.cred, 766 bytes
  then     /run/credentials/@encrypted/iscsi.password
  for      each unit with ImportCredential=iscsi.password
  opens    in the TPM of web1 alone, for systemd 262 and later
  key      HEX

All of it was read back and verified. No credential was opened: only the TPM of its host can.
The EFI system partition stands in ROOM/esp
";

/// Beside the test's own directory, where cargo puts it together with the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/main-job");
    assert!(
        example.exists(),
        "`cargo build --example main-job` makes {}",
        example.display()
    );
    example
}

fn room() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/main-job")
}

/// Every file below with its content, by its path.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                ahead.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The text with every run of 64 and more hexadecimal digits as `HEX`.
fn without_hashes(text: &str) -> String {
    let is_hex = |word: &str| word.len() >= 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split_inclusive([' ', '\n']).map(|word| {
        let digits = word.trim_end();
        if is_hex(digits) {
            word.replace(digits, "HEX")
        } else {
            word.to_owned()
        }
    });
    words.collect()
}

#[test]
fn tells_what_the_initrd_will_get_and_leaves_just_that() {
    let output = Command::new(example()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let room = room();
    let report = String::from_utf8(output.stdout)
        .unwrap()
        .replace(room.to_str().unwrap(), "ROOM");
    assert_eq!(without_hashes(&report), REPORT);
    assert_eq!(output.status.code(), Some(0));

    let found = files(&room);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let expected = [
        "esp/EFI/Linux/vendor.efi",
        "esp/EFI/Linux/vendor.efi.extra.d/fstab.extra.cred",
        "esp/EFI/Linux/vendor.efi.extra.d/hello.sysext.raw",
        "esp/EFI/Linux/vendor.efi.extra.d/iscsi.password.cred",
        "esp/loader/ukikit/1/done",
        "esp/loader/ukikit/1/journal",
        "web1.json",
    ];
    assert_eq!(names, expected);
    for (name, content) in &found {
        let leaks = content.windows(7).any(|bytes| bytes == b"hunter2");
        assert!(!leaks && !report.contains("hunter2"), "{name}");
    }
}
