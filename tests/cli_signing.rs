//! Every way to sign as a user meets it, checked by OpenSSL and by sbverify: images and PE files, keys in files, encrypted
//! ones, and keys that are elsewhere.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{have, pe, run, skip, text, ukikit, vector, without_terminal};
use tempfile::TempDir;

const IMAGE: &str = "--name=demo --tree=tree --architecture=x86-64";
/// Each kind of key a boot takes, as arguments for `openssl genpkey`.
const KEYS: [(&str, &str); 5] = [
    ("rsa2048", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ("rsa3072", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072"),
    ("rsa4096", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096"),
    ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
];

#[test]
fn every_key_signs_images_in_one_step_and_in_two() {
    let bench = Bench::new();
    for (name, _) in KEYS {
        bench.make_key(name);
        let key = format!("--private-key={name}.key --certificate={name}.crt");
        bench.run(&format!("ext build {IMAGE} {key} --output=demo.raw"));
        let one = bench.read("demo.raw");
        bench.check_image("demo.raw", name);

        bench.run(&format!(
            "ext build {IMAGE} --private-key={name}.enc --passphrase-file=pass --certificate={name}.crt --output=demo.raw"
        ));
        assert!(bench.read("demo.raw") == one, "{name}: encrypted");

        bench.run(&format!(
            "ext digest {IMAGE} --certificate={name}.crt --output=demo.raw --content=hex --digest=digest"
        ));
        let digest = bench.sign_digest(name, "digest");
        bench.run(&format!(
            "ext attach --certificate={name}.crt --signature={digest} demo.raw"
        ));
        bench.check_image("demo.raw", name);
        let same = bench.read("demo.raw") == one;
        // OpenSSL draws a number for each ECDSA signature.
        assert_eq!(same, name.starts_with("rsa"), "{name}: two steps");
    }
}

#[test]
fn what_openssl_wraps_is_taken_if_both_sides_would_take_it() {
    let bench = Bench::new();
    bench.make_key("p256");
    bench.run(&format!(
        "ext digest {IMAGE} --output=demo.raw --content=hex"
    ));
    let before = bench.read("demo.raw");
    for (verb, more, reason) in [
        ("smime", "-noattr", None),
        ("cms", "-noattr", None),
        ("cms", "-noattr -nocerts", None),
        (
            "smime",
            "",
            Some("has signed attributes; the kernel refuses them"),
        ),
        (
            "smime",
            "-noattr -nodetach",
            Some("has its content inside; the kernel takes only detached signatures"),
        ),
        (
            "cms",
            "-noattr -keyid",
            Some("names its signer by subject key identifier; systemd cannot read it"),
        ),
    ] {
        bench.openssl(&format!(
            "{verb} -sign -binary -md sha256 {more} -in hex -signer p256.crt -inkey p256.key -outform DER -out p7s"
        ));
        let attached = bench.start(
            "ext attach --certificate=p256.crt --signature=p7s --output=signed.raw demo.raw",
        );
        let said = text(&attached.stderr);
        match reason {
            None => {
                assert!(attached.status.success(), "{verb} {more}: {said}");
                bench.run("ext attach --certificate=p256.crt --signature=p7s --output=demo.sysext.raw demo.raw");
                bench.check_image("demo.sysext.raw", "p256");
            }
            Some(reason) => {
                assert_eq!(attached.status.code(), Some(1), "{verb} {more}");
                assert!(said.contains(reason), "{verb} {more}: {said}");
                assert!(!bench.path("signed.raw").exists(), "{verb} {more}");
            }
        }
        let _ = fs::remove_file(bench.path("signed.raw"));
    }
    assert!(bench.read("demo.raw") == before);
}

#[test]
fn mistakes_get_one_sentence_and_write_nothing() {
    let bench = Bench::new();
    bench.make_key("p256");
    bench.make_key("rsa2048");
    bench.run(&format!(
        "ext digest {IMAGE} --output=demo.raw --digest=digest"
    ));
    let before = bench.read("demo.raw");
    let signature = bench.sign_digest("p256", "digest");
    fs::write(bench.path("wrong"), "not it\n").unwrap();
    for (arguments, expected) in [
        (
            format!("ext attach --certificate=rsa2048.crt --signature={signature} demo.raw"),
            "is not over root hash",
        ),
        (
            format!(
                "ext build {IMAGE} --private-key=p256.enc --passphrase-file=wrong --certificate=p256.crt --output=demo.raw"
            ),
            "cannot be decrypted: wrong passphrase, or not PBES2 with AES",
        ),
        (
            format!(
                "ext build {IMAGE} --private-key=p256.enc --certificate=p256.crt --output=demo.raw"
            ),
            "there is no terminal to ask on: give --passphrase-file=",
        ),
        (
            format!(
                "ext build {IMAGE} --private-key=p256.key --certificate=rsa2048.crt --output=demo.raw"
            ),
            "do not belong together",
        ),
        (
            format!(
                "ext build {IMAGE} --private-key=pkcs11:?pin-value=1 --certificate=p256.crt --output=demo.raw"
            ),
            "its pin-value= shows the PIN to everybody who can list processes",
        ),
        (
            "pe sign --private-key=p256.key --certificate=p256.crt --output=out hex".into(),
            "cannot read `hex`: No such file or directory",
        ),
        (
            "pe sign --private-key=p256.key --certificate=p256.crt --output=out demo.raw".into(),
            "cannot use `demo.raw`: at byte 0: this is not a PE file",
        ),
    ] {
        let output = bench.start(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert!(
            said.starts_with("error: ") && said.contains(expected),
            "{said}"
        );
        assert!(bench.read("demo.raw") == before, "{arguments}");
        assert!(!bench.path("out").exists(), "{arguments}");
    }
}

/// On a terminal of its own, which `script` makes.
#[test]
fn a_passphrase_is_asked_for_and_does_not_show() {
    let bench = Bench::new();
    bench.make_key("p256");
    let build = format!(
        "{} ext build {IMAGE} --private-key=p256.enc --certificate=p256.crt --output=demo.raw",
        ukikit().get_program().display()
    );
    let asked = "Passphrase of p256.enc: ";
    let shown = bench.on_terminal(&build, asked, b"sesame\n");
    assert!(shown.starts_with("\r\nimage      demo.raw\r\n"), "{shown}");
    bench.check_image("demo.raw", "p256");
    fs::remove_file(bench.path("demo.raw")).unwrap();

    // The key that interrupts ends the program, and the terminal shows again what is typed. Who runs tests in the
    // background may ignore that signal.
    let script = format!("env --default-signal=INT {build}; echo status $?; stty");
    let shown = bench.on_terminal(&script, asked, b"ses\x03");
    assert!(shown.starts_with("\r\nstatus 130\r\n"), "{shown}");
    assert!(!shown.contains("-echo"), "{shown}");
    assert!(!bench.path("demo.raw").exists());
}

#[test]
fn pe_files_signed_with_every_key_are_what_sbverify_takes() {
    if !have("sbverify") {
        return skip("PE signatures: sbverify is not installed");
    }
    let bench = Bench::new();
    fs::write(bench.path("boot.efi"), pe::addon(&[(".cmdline", b"quiet")])).unwrap();
    for (name, _) in KEYS {
        bench.make_key(name);
        let key =
            format!("--private-key={name}.enc --passphrase-file=pass --certificate={name}.crt");
        bench.run(&format!("pe sign {key} --output=one.efi boot.efi"));
        bench.sbverify(name, "one.efi");
        bench.run(&format!("pe verify --certificate={name}.crt one.efi"));
        let json: Value = serde_json::from_slice(
            &bench
                .run("pe digest --json=short --digest=digest boot.efi")
                .stdout,
        )
        .unwrap();
        let signature = bench.sign_digest(name, "digest");
        bench.run(&format!(
            "pe attach --certificate={name}.crt --signature={signature} --output=two.efi boot.efi"
        ));
        bench.sbverify(name, "two.efi");
        let same = bench.read("one.efi") == bench.read("two.efi");
        assert_eq!(same, name.starts_with("rsa"), "{name}");

        // Theirs through ours: the digest is the same, or it would not verify.
        bench.program(
            "sbsign",
            &format!("--key {name}.key --cert {name}.crt --output theirs.efi boot.efi"),
        );
        let verdict = bench.run(&format!(
            "pe verify --json=short --certificate={name}.crt theirs.efi"
        ));
        let verdict: Value = serde_json::from_slice(&verdict.stdout).unwrap();
        assert_eq!(verdict["digest"], json["fileDigest"], "{name}");

        bench.program(
            "sbsign",
            &format!("--detached --key {name}.key --cert {name}.crt --output p7s boot.efi"),
        );
        bench.run(&format!(
            "pe attach --certificate={name}.crt --signature=p7s --output=two.efi boot.efi"
        ));
        bench.sbverify(name, "two.efi");
    }
}

#[test]
fn two_signatures_on_one_file_are_both_good() {
    if !have("sbverify") {
        return skip("PE signatures: sbverify is not installed");
    }
    let bench = Bench::new();
    fs::write(bench.path("boot.efi"), pe::addon(&[(".cmdline", b"quiet")])).unwrap();
    for name in ["rsa2048", "rsa3072"] {
        bench.make_key(name);
        bench.run(&format!(
            "pe sign --private-key={name}.key --certificate={name}.crt --output=boot.efi boot.efi"
        ));
    }
    let both = bench.read("boot.efi");
    for name in ["rsa2048", "rsa3072"] {
        bench.sbverify(name, "boot.efi");
        bench.run(&format!(
            "pe sign --private-key={name}.key --certificate={name}.crt --output=boot.efi boot.efi"
        ));
        assert!(bench.read("boot.efi") == both, "signed again with {name}");
    }
    let mut changed = both;
    changed[600] ^= 1;
    fs::write(bench.path("changed.efi"), changed).unwrap();
    let refused = bench.start("pe verify --certificate=rsa2048.crt changed.efi");
    assert_eq!(
        (refused.status.code(), text(&refused.stdout)),
        (
            Some(1),
            "changed.efi: the signature is over another file, or not with SHA-256\n".repeat(2)
        )
    );
}

/// A directory with a small tree, and keys when they are wanted.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(bench.path("tree/usr/lib/demo")).unwrap();
        fs::write(bench.path("tree/usr/lib/demo/file"), "content\n").unwrap();
        fs::write(bench.path("pass"), "sesame\n").unwrap();
        bench
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap()
    }

    /// NAME.key, NAME.enc (the same with a passphrase) and NAME.crt. One that lies among the vectors is taken from there.
    fn make_key(&self, name: &str) {
        let kept = vector(&format!("ddi/keys/{name}.key"));
        if kept.exists() {
            fs::copy(kept, self.path(&format!("{name}.key"))).unwrap();
        } else {
            let (_, kind) = KEYS.into_iter().find(|(known, _)| *known == name).unwrap();
            self.openssl(&format!("genpkey {kind} -out {name}.key"));
        }
        self.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN={name} -days 3650 -out {name}.crt"
        ));
        self.openssl(&format!(
            "pkcs8 -topk8 -in {name}.key -passout file:pass -out {name}.enc"
        ));
    }

    /// What an HSM would make of a digest: the name of a file with a signature alone.
    fn sign_digest(&self, name: &str, digest: &str) -> &'static str {
        let hash = match self.read(digest).len() {
            32 => "sha256",
            _ => "sha384",
        };
        self.openssl(&format!(
            "pkeyutl -sign -inkey {name}.key -pkeyopt digest:{hash} -in {digest} -out signature"
        ));
        "signature"
    }

    /// The image by our verifier, the signature in it by OpenSSL's.
    fn check_image(&self, image: &str, name: &str) {
        let verified = self.run(&format!(
            "ext verify --json=short --certificate={name}.crt {image}"
        ));
        let verdict: Value = serde_json::from_slice(&verified.stdout).unwrap();
        fs::write(
            self.path("root-hash"),
            verdict["rootHash"].as_str().unwrap(),
        )
        .unwrap();
        let bytes = self.read(image);
        let start = bytes
            .windows(11)
            .position(|at| at == b"{\"rootHash\"")
            .unwrap();
        let json = bytes[start..].split(|&byte| byte == 0).next().unwrap();
        let json: Value = serde_json::from_slice(json).unwrap();
        fs::write(self.path("p7.b64"), json["signature"].as_str().unwrap()).unwrap();
        self.openssl("base64 -d -A -in p7.b64 -out p7");
        self.openssl(&format!(
            "smime -verify -binary -inform DER -in p7 -content root-hash -certfile {name}.crt -nointern -noverify -out verified"
        ));
    }

    fn sbverify(&self, name: &str, file: &str) {
        self.program("sbverify", &format!("--cert {name}.crt {file}"));
    }

    fn openssl(&self, arguments: &str) {
        self.program("openssl", arguments);
    }

    fn program(&self, program: &str, arguments: &str) {
        let arguments = arguments.split_whitespace();
        let directory = self.0.path().to_str().unwrap();
        run(
            "env",
            ["-C", directory, program].into_iter().chain(arguments),
        );
    }

    /// What a shell shows after it has shown `asked`, and `typed` was typed.
    fn on_terminal(&self, commands: &str, asked: &str, typed: &[u8]) -> String {
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--command", commands, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut shown = vec![0; asked.len()];
        let mut terminal = script.stdout.take().unwrap();
        terminal.read_exact(&mut shown).unwrap();
        assert_eq!(text(&shown), asked);
        let mut keys = script.stdin.take().unwrap();
        keys.write_all(typed).unwrap();
        shown.clear();
        terminal.read_to_end(&mut shown).unwrap();
        drop(keys);
        script.wait().unwrap();
        text(&shown)
    }

    fn start(&self, arguments: &str) -> Output {
        // Without a terminal to ask on.
        without_terminal(ukikit())
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap()
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
