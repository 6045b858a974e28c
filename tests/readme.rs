//! The shell sessions of README and manual, pasted: every line after `$ ` that is not about cargo or the tests themselves.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

#[test]
fn what_the_readme_shows_works_when_pasted() {
    assert_eq!(paste("README.md"), 28);
}

#[test]
fn what_the_manual_shows_works_when_pasted() {
    let pages = fs::read_dir(top().join("docs")).unwrap();
    let mut pages: Vec<PathBuf> = pages.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    pages.sort();
    let pasted = pages.iter().map(|page| {
        (
            page.file_name().unwrap().to_str().unwrap(),
            paste(page.strip_prefix(top()).unwrap()),
        )
    });
    let pasted: Vec<_> = pasted.filter(|(_, count)| *count > 0).collect();
    assert_eq!(
        pasted,
        [
            ("admin.md", 7),
            ("concepts.md", 4),
            ("first-boot.md", 8),
            ("packager.md", 7)
        ]
    );
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// What the main job leaves: the sessions follow it, each on a copy.
fn main_job() -> &'static TempDir {
    static DONE: OnceLock<TempDir> = OnceLock::new();
    DONE.get_or_init(|| {
        let example = Path::new(env!("CARGO_BIN_EXE_ukikit")).with_file_name("examples/main-job");
        assert!(
            example.exists(),
            "`cargo build --example main-job` makes {}",
            example.display()
        );
        let made = Command::new(example).output().unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let place = tempfile::tempdir().unwrap();
        copy(&top().join("target/main-job"), place.path());
        place
    })
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Pastes a page, and tells how many lines it had.
fn paste(page: impl AsRef<Path>) -> usize {
    let page = page.as_ref();
    let text = fs::read_to_string(top().join(page)).unwrap();
    let commands = commands(&text);
    if commands.is_empty() {
        return 0;
    }
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("target")).unwrap();
    copy(
        &main_job().path().join("main-job"),
        &place.path().join("target"),
    );
    let path = Path::new(env!("CARGO_BIN_EXE_ukikit"))
        .parent()
        .unwrap()
        .to_str()
        .unwrap();
    for command in &commands {
        let shell = format!("set -e; PATH={path}:$PATH; {command}");
        let output = Command::new("sh")
            .args(["-c", &shell])
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}: {command}: {}",
            page.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    commands.len()
}

/// Lines that begin with `$ ` inside console blocks; root's lines begin with `# `.
fn commands(readme: &str) -> Vec<&str> {
    let mut inside = false;
    let mut commands = Vec::new();
    for line in readme.lines() {
        match line.strip_prefix("```") {
            Some(kind) => inside = kind == "console",
            None if inside => commands.extend(line.strip_prefix("$ ")),
            None => {}
        }
    }
    commands.retain(|command| !command.starts_with("cargo ") && !command.starts_with("tests/run"));
    commands
}
