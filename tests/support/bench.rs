//! An empty machine in a directory: what a host has, and the program run in it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tempfile::TempDir;

use super::{text, ukikit};

/// `etc/machine-id` of the machine.
pub(crate) const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct Bench(TempDir);

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(bench.path("etc")).unwrap();
        bench.write("etc/machine-id", format!("{MACHINE_ID}\n").as_bytes());
        bench.write(
            "etc/passwd",
            b"root:x:0:0::/root:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n",
        );
        bench
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap()
    }

    /// The program with these words, in the directory, with an input.
    pub(crate) fn start(&self, arguments: &str, input: &[u8]) -> Output {
        let mut command = ukikit();
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that refuses its options never reads its input.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// The same, which must succeed: standard output and standard error.
    pub(crate) fn run(&self, arguments: &str) -> (String, String) {
        let output = self.start(arguments, b"");
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments}: {said}");
        (text(&output.stdout), said)
    }

    /// The same, which must fail with exactly this on standard error.
    pub(crate) fn refuses(&self, arguments: &str, error: &str) {
        let output = self.start(arguments, b"");
        let seen = (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        );
        assert_eq!(
            seen,
            (Some(1), String::new(), error.to_owned()),
            "{arguments}"
        );
    }
}
