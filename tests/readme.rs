//! The README's shell sessions, pasted: every line after `$ ` that is not about cargo or the tests themselves.

#![cfg(test)]

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn what_the_readme_shows_works_when_pasted() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let place = tempfile::tempdir().unwrap();
    // The sessions follow the main job and use what it leaves; they do it on a copy.
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
    let copy = place.path().join("target");
    fs::create_dir(&copy).unwrap();
    let copied = Command::new("cp")
        .arg("-r")
        .arg(top.join("target/main-job"))
        .arg(&copy)
        .status()
        .unwrap();
    assert!(copied.success());

    let path = Path::new(env!("CARGO_BIN_EXE_ukikit"))
        .parent()
        .unwrap()
        .to_str()
        .unwrap();
    let readme = fs::read_to_string(top.join("README.md")).unwrap();
    let commands = commands(&readme);
    assert_eq!(commands.len(), 24);
    for command in commands {
        let shell = format!("set -e; PATH={path}:$PATH; {command}");
        let output = Command::new("sh")
            .args(["-c", &shell])
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
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
