//! `ukikit addon` as a user meets it: exact output, exact errors, nothing half-written.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};
use support::uki::pe_file;
use support::{succeed, text, ukikit, vector};
use tempfile::TempDir;
use ukikit_esp::Pe;
use ukikit_sysext::{Entry, Tree, initrd};

const BUILD: &str = "addon build --architecture=x86-64 --output=feature.addon.efi";

#[test]
fn built_verified_and_shown() {
    let bench = Bench::new();
    let built = bench.run(&format!(
        "{BUILD} --tree=tree --cmdline=console=ttyS0 --uname=6.18.0 --sbat-generation=3"
    ));
    let file = fs::read(bench.path("feature.addon.efi")).unwrap();
    let size = file.len();
    let addon = Pe::parse(&file).unwrap();
    let digest = hex::encode(Sha256::digest(addon.section(".initrd").unwrap()));
    assert_eq!(
        built,
        format!(
            "addon         feature.addon.efi\nsize          {size}\narchitecture  x86-64\nkernel        6.18.0\n\
             sbat          uki-addon.feature, generation 3\nPCR 12        command line, initrd\n              initrd SHA-256 {digest}\n"
        )
    );
    assert_eq!(
        bench.run("addon verify feature.addon.efi"),
        "feature.addon.efi: good, signatures not looked at\n"
    );
    let shown = bench.run("addon inspect feature.addon.efi");
    for line in [
        "architecture  x86-64\n",
        "kernel        6.18.0\n",
        "command line  console=ttyS0\n",
        "sbat          uki-addon.feature,3,ukikit,feature,3,",
        "section       .text, 11 bytes\n",
        "section       .uname, 7 bytes\n",
        "initrd        /usr/lib/greeting, 6 bytes, mode 0644\n",
        "initrd        /usr/lib/link -> greeting\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let json: Value =
        serde_json::from_str(&bench.run("addon inspect --json=short feature.addon.efi")).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["cmdline"], "console=ttyS0");
    assert_eq!(json["initrd"][0]["path"], "/usr/lib/greeting");
    assert_eq!(json["sbat"][1]["generation"], 3);
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let bench = Bench::new();
    bench.run(&format!("{BUILD} --tree=tree"));
    let first = fs::read(bench.path("feature.addon.efi")).unwrap();
    fs::rename(bench.path("tree"), bench.path("moved")).unwrap();
    bench.make_tree();
    bench.run(&format!("{BUILD} --tree=tree"));
    assert_eq!(fs::read(bench.path("feature.addon.efi")).unwrap(), first);
}

#[test]
fn a_dry_run_writes_nothing() {
    let bench = Bench::new();
    let built = bench.run(&format!("{BUILD} --tree=tree --dry-run"));
    assert!(
        built.starts_with("addon         feature.addon.efi (not written)\n"),
        "{built}"
    );
    assert!(!bench.path("feature.addon.efi").exists());
}

#[test]
fn options_may_come_from_a_file() {
    let bench = Bench::new();
    fs::write(
        bench.path("options"),
        "quiet\nsystemd.import_credentials=no\n",
    )
    .unwrap();
    bench.run(&format!("{BUILD} --cmdline=@options"));
    let json: Value =
        serde_json::from_str(&bench.run("addon inspect --json=short feature.addon.efi")).unwrap();
    assert_eq!(json["cmdline"], "quiet systemd.import_credentials=no");
}

#[test]
fn mistakes_are_told_in_one_sentence() {
    let bench = Bench::new();
    fs::write(bench.path("text"), "text").unwrap();
    fs::write(bench.path("a.addon.efi"), "MZ").unwrap();
    for (arguments, expected) in [
        (
            BUILD.to_owned(),
            "the addon would be empty: it needs a command line, an initrd, microcode or a devicetree",
        ),
        (
            "addon build --cmdline=quiet --output=feature.efi".to_owned(),
            "`feature.efi` is not called NAME.addon.efi, and the stub would pass over it",
        ),
        (
            format!("{BUILD} --cmdline="),
            "the .cmdline section of the addon: it is empty",
        ),
        (
            format!("{BUILD} --initrd=text"),
            "cannot use `text`: at byte 0: archive ends without its trailer",
        ),
        (
            format!("{BUILD} --devicetree=text"),
            "`text` is not a compiled devicetree",
        ),
        (
            format!("{BUILD} --cmdline=quiet --sbat=x,y"),
            "the .sbat section: the row `x,y` is not NAME,GENERATION and four more fields",
        ),
        (
            "addon inspect a.addon.efi".to_owned(),
            "cannot use `a.addon.efi`: at byte 0: this is not a PE file",
        ),
    ] {
        assert_eq!(bench.fail(&arguments), format!("error: {expected}\n"));
        assert!(!bench.path("feature.addon.efi").exists());
    }
}

#[test]
fn told_before_the_stub_says_nothing() {
    let bench = Bench::new();
    bench.make_uki();
    let fits = format!("{BUILD} --uki=vendor.efi");
    bench.run(&format!("{fits} --tree=tree --same-kernel"));
    assert_eq!(
        bench.run("addon verify --uki=vendor.efi feature.addon.efi"),
        "feature.addon.efi: good, signatures not looked at\n"
    );
    assert_eq!(
        bench.fail(&format!("{fits} --cmdline=quiet --uname=6.19.0")),
        "error: the UKI would not use the addon: it is for the kernel 6.19.0, the UKI has 6.18.0\n"
    );
    fs::create_dir(bench.path("tree/lib")).unwrap();
    fs::write(bench.path("tree/lib/x"), "x").unwrap();
    assert_eq!(
        bench.fail(&format!("{fits} --tree=tree")),
        "error: the directory `/lib` would replace a symbolic link of the initrd\n\n\
         hint: put the files where it leads to: usr/lib\n"
    );
    bench.run(&format!("{BUILD} --tree=tree"));
    let verdict = bench
        .command("addon verify --uki=vendor.efi feature.addon.efi")
        .output()
        .unwrap();
    assert_eq!(verdict.status.code(), Some(1));
    assert_eq!(
        text(&verdict.stdout),
        "feature.addon.efi: the directory `/lib` would replace a symbolic link of the initrd\n"
    );
}

/// Signed as it is made, and judged by the keys that the firmware has.
#[test]
fn signed_for_secure_boot() {
    let bench = Bench::new();
    let key = |name: &str| vector(&format!("ddi/keys/{name}")).display().to_string();
    let signing = format!(
        "--secureboot-private-key={} --secureboot-certificate={}",
        key("rsa2048.key"),
        key("rsa2048.crt")
    );
    let build = format!("{BUILD} --cmdline=quiet {signing}");
    bench.run(&build);
    let signed = fs::read(bench.path("feature.addon.efi")).unwrap();
    bench.run(&build);
    assert!(fs::read(bench.path("feature.addon.efi")).unwrap() == signed);
    let verify = |db: &str| {
        let arguments = format!("addon verify --db={} feature.addon.efi", key(db));
        let output = bench.command(&arguments).output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    assert_eq!(
        verify("rsa2048.crt"),
        (
            Some(0),
            "feature.addon.efi: good, signed by CN=ddi test vector a rsa2048\n".to_owned()
        )
    );
    let (code, said) = verify("p256.crt");
    assert_eq!(code, Some(1));
    assert!(
        said.ends_with(", which is no trusted certificate\n"),
        "{said}"
    );
    let at = signed.windows(5).position(|bytes| bytes == b"quiet");
    let mut changed = signed.clone();
    changed[at.unwrap()] = b'Q';
    fs::write(bench.path("feature.addon.efi"), changed).unwrap();
    assert_eq!(
        verify("rsa2048.crt"),
        (
            Some(1),
            "feature.addon.efi: the signature is over another file, or not with SHA-256\n"
                .to_owned()
        )
    );
    bench.run(&format!("{BUILD} --cmdline=quiet"));
    assert_eq!(
        verify("rsa2048.crt"),
        (
            Some(1),
            "feature.addon.efi: it is not signed, which Secure Boot requires\n".to_owned()
        )
    );
}

/// A directory with a small tree.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new().unwrap());
        bench.make_tree();
        bench
    }

    fn make_tree(&self) {
        fs::create_dir_all(self.path("tree/usr/lib")).unwrap();
        fs::write(self.path("tree/usr/lib/greeting"), "hello\n").unwrap();
        symlink("greeting", self.path("tree/usr/lib/link")).unwrap();
    }

    /// A UKI with an initrd whose /lib is a link, as distributions have it.
    fn make_uki(&self) {
        let mut tree = Tree::new();
        for (path, entry) in [
            ("lib", Entry::symlink("usr/lib")),
            (
                "usr/lib/os-release",
                Entry::file("ID=vendor\nVERSION_ID=1\n"),
            ),
        ] {
            tree.insert(path, entry).unwrap();
        }
        let uki = pe_file(&[
            (".linux", b"MZ"),
            (".uname", b"6.18.0"),
            (".sdmagic", b"#### LoaderInfo: systemd-stub 262 ####\0"),
            (
                ".initrd",
                &initrd::write(&tree, initrd::Packing::None).unwrap(),
            ),
        ]);
        fs::write(self.path("vendor.efi"), uki).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &str) -> std::process::Command {
        let mut command = ukikit();
        command
            .args(arguments.split(' '))
            .current_dir(self.0.path());
        command
    }

    fn run(&self, arguments: &str) -> String {
        text(&succeed(
            arguments,
            self.command(arguments).output().unwrap(),
        ))
    }

    fn fail(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments}: {}",
            text(&output.stdout)
        );
        text(&output.stderr)
    }
}
