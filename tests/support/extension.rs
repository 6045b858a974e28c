//! A directory with a small tree, and `ukikit` run in it: what the tests of `ukikit ext` start from.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{text, ukikit, vector};

/// Builds the tree; `--output=` is missing. `KEYS` stands for the directory of the test keys.
pub(crate) const BUILD: &str = "ext build --name=demo --tree=tree --architecture=x86-64 --private-key=KEYS/rsa2048.key --certificate=KEYS/rsa2048.crt";

/// A directory with a small tree.
pub(crate) struct Bench(TempDir);

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.make_tree();
        bench
    }

    /// A file and a symbolic link.
    pub(crate) fn make_tree(&self) {
        fs::create_dir_all(self.path("tree/usr/lib/demo")).unwrap();
        fs::write(self.path("tree/usr/lib/demo/file"), "content\n").unwrap();
        symlink("file", self.path("tree/usr/lib/demo/link")).unwrap();
    }

    /// A path in the directory.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The program with these words, in the directory, before it runs.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let arguments = arguments.replace("KEYS", &keys());
        let mut command = ukikit();
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path());
        command
    }

    /// The same, run.
    pub(crate) fn start(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same, which must succeed.
    pub(crate) fn run(&self, arguments: &str) -> Output {
        let output = self.start(arguments);
        assert!(
            output.status.success(),
            "{arguments}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        output
    }

    /// The same, which must fail with exactly this on standard error, and nothing else.
    pub(crate) fn refuses(&self, arguments: &str, error: &str) {
        let output = self.start(arguments);
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

    pub(crate) fn root_hash(&self, image: &str) -> String {
        let output = self.run(&format!(
            "ext verify --json=short --certificate=KEYS/rsa2048.crt {image}"
        ));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        json["rootHash"].as_str().unwrap().to_owned()
    }

    /// Whatever looks like an image, a temporary one too.
    pub(crate) fn images(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file()).collect()
    }
}

/// Where the test keys lie.
pub(crate) fn keys() -> String {
    let path: &Path = &vector("ddi/keys");
    path.to_str().unwrap().to_owned()
}
