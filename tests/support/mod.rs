//! What the tests from outside share: a software TPM, the real systemd, the vectors, and one way to skip aloud.
//!
//! Each test target takes the parts it needs with `#[path = "../support/mod.rs"] mod support;`.

#![allow(dead_code, reason = "every test target uses another part")]

pub(crate) mod bench;
pub(crate) mod event_log;
pub(crate) mod extension;
pub(crate) mod fat;
pub(crate) mod identities;
pub(crate) mod pe;
pub(crate) mod schema;
pub(crate) mod swtpm;
pub(crate) mod systemd;
pub(crate) mod uki;
pub(crate) mod vendor;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A file of `tests/vectors/`.
pub(crate) fn vector(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/vectors")
        .join(path)
}

/// A vector that is JSON.
pub(crate) fn vector_json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(vector(path)).unwrap()).unwrap()
}

/// What `tests/run` told this test through the environment.
pub(crate) fn setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test is its own outside world")]
    std::env::var(name).ok()
}

/// Says that a test is left out for `reason`; with `INTEROP=require` that is a failure.
///
/// The line stands alone and goes around the test runner's capture, because `tests/run` counts it.
pub(crate) fn skip(reason: &str) {
    assert_ne!(setting("INTEROP").as_deref(), Some("require"), "{reason}");
    let _ = writeln!(io::stderr(), "\nSKIPPED: {reason}");
}

/// Runs a program that must succeed; what it said on both streams is in the failure.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output();
    succeed(
        program,
        output.unwrap_or_else(|error| panic!("cannot run {program}: {error}")),
    )
}

/// A program that the kernel ends with the thread that starts it, even if that is killed and nothing is dropped.
pub(crate) fn attended(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Whether a program is installed that knows `--version`.
pub(crate) fn have(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// A program that finds no terminal to ask on.
pub(crate) fn without_terminal(program: Command) -> Command {
    let mut command = Command::new("setsid");
    for (variable, value) in program.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command.arg("--wait").arg(program.get_program());
    command
}

/// The standard output of a finished program that must have succeeded.
pub(crate) fn succeed(what: &str, output: Output) -> Vec<u8> {
    assert!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output.stdout
}

/// Program output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The built `ukikit`, with nothing of this machine's environment that could change its mind.
pub(crate) fn ukikit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ukikit"));
    for variable in [
        "CREDENTIALS_DIRECTORY",
        "SOURCE_DATE_EPOCH",
        "SYSTEMD_CREDENTIAL_SECRET",
        "SYSTEMD_TPM2_DEVICE",
    ] {
        command.env_remove(variable);
    }
    command
}
