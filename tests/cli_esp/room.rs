//! A room with an ESP in it, what lies there, and how a run of `ukikit esp` ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use assert_cmd::Command;
use base64::Engine;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tempfile::TempDir;
use ukikit_creds::{Credential, Key, LINE, Secret, Timestamp};
use ukikit_esp::{AddonImage, Architecture, Sbat};

use super::support::uki::pe_file;

pub(crate) const UKI: &str = "--uki=EFI/Linux/vendor.efi";

/// A credential of this name under the null key.
pub(crate) fn credential(name: &str, secret: &[u8]) -> Vec<u8> {
    let made = Timestamp::from_micros(1_600_000_000_000_000);
    let credential = Credential::new(
        Some(name.parse().unwrap()),
        made,
        Secret::new(secret.to_vec()),
    );
    let encrypted = credential
        .encrypt(&Key::Null, &mut UnwrapErr(SysRng))
        .unwrap();
    encrypted.to_text(LINE).into_bytes()
}

/// That of `demo.cred`: always the same one.
pub(crate) fn demo() -> Vec<u8> {
    static DEMO: LazyLock<Vec<u8>> = LazyLock::new(|| credential("demo", b"9 letters"));
    DEMO.clone()
}

/// A room with an ESP in it, as `esp/`: one UKI, boot counted. Commands run in the room.
pub(crate) struct Room(pub(crate) TempDir);

impl Room {
    pub(crate) fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        let uki = pe_file(&[(".linux", b"kernel"), (".initrd", b"")]);
        room.write("esp/EFI/Linux/vendor+3-0.efi", &uki);
        room
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn esp(&self, verb: &str, arguments: &[&str]) -> Output {
        Command::cargo_bin("ukikit")
            .unwrap()
            .current_dir(self.0.path())
            .args(["esp", verb, "--esp=esp"])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Every file and directory of the ESP with its content, but for what the engine keeps for itself.
    pub(crate) fn tree(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut found = self.whole_tree();
        let loader = self.path("esp/loader");
        found.retain(|(path, _)| !path.starts_with(loader.join("ukikit")));
        if !found.iter().any(|(path, _)| path.parent() == Some(&loader)) {
            found.retain(|(path, _)| *path != loader);
        }
        found
    }

    /// Every file and directory of the ESP with its content.
    pub(crate) fn whole_tree(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        collect(&self.path("esp"), &mut found);
        found.sort();
        found
    }
}

pub(crate) fn collect(directory: &Path, found: &mut Vec<(PathBuf, Option<Vec<u8>>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
            found.push((path, None));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, Some(content)));
        }
    }
}

#[track_caller]
pub(crate) fn assert_done(output: &Output, stdout: &str, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(output.status.code(), Some(0));
}

/// The output without the room on the file system the test happens to run on.
pub(crate) fn without_room(mut output: Output) -> Output {
    let text = String::from_utf8(output.stdout).unwrap();
    let (json, line) = (text.find(",\"room\""), text.find("free  "));
    output.stdout = match (json, line) {
        (Some(at), _) => format!("{}}}\n", &text[..at]).into_bytes(),
        (None, Some(at)) => text[..at].into(),
        (None, None) => text.into_bytes(),
    };
    output
}

#[track_caller]
pub(crate) fn assert_failed(output: &Output, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(1));
}

pub(crate) fn vector(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    fs::read(root.join(name)).unwrap()
}

/// An addon with a command line.
pub(crate) fn addon() -> Vec<u8> {
    let sbat = Sbat::new("quiet", 1).unwrap();
    let mut addon = AddonImage::new(Architecture::X86_64, sbat);
    addon.cmdline = Some("quiet".to_owned());
    addon.to_bytes().unwrap()
}

/// The same, but what it carries is called otherwise.
pub(crate) fn renamed(section: &str) -> Vec<u8> {
    let mut file = addon();
    let at = file.windows(8).position(|bytes| bytes == b".cmdline");
    let at = at.unwrap();
    file[at..at + 8].copy_from_slice(section.as_bytes());
    file
}

/// The bytes behind Base64 text.
pub(crate) fn binary(text: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}
