//! UKIs of vendors that know nothing of us, under Secure Boot: what they refuse, what makes them take it, and that this was said
//! before each boot.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::secure::{on_esp, secure_lab, sign, signer};
use crate::support::systemd::{Room, Systemd};
use crate::support::{run, setting, skip, succeed, ukikit};
use crate::{SECRET, Scene};

/// A machine of whoever has the key `sb.key` of the room.
struct Foreign {
    room: Room,
    lab: &'static Path,
    packages: PathBuf,
}

impl Foreign {
    fn new(uki: &str) -> Option<Self> {
        // The firmware is of this one.
        Systemd::find(262)?;
        let features = Systemd::with_features(262)?;
        let Some(lab) = setting("UKIKIT_FEATURE_LAB_262") else {
            skip("features: no lab, tests/run --full makes one");
            return None;
        };
        let room = features.room();
        let lab = secure_lab(Path::new(&lab), uki, &room).keep();
        Some(Self {
            room,
            lab: Box::leak(lab.into_boxed_path()),
            packages: features.root().to_owned(),
        })
    }

    fn scene(&self) -> Scene<'_> {
        Scene::new(self.lab)
    }

    fn key(&self) -> [String; 2] {
        [("private-key", "sb.key"), ("certificate", "sb.crt")].map(|(option, file)| {
            format!("--secureboot-{option}={}", self.room.path(file).display())
        })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.lab);
    }
}

/// An extension with one file and no unit, for the UKI of the scene.
fn build(scene: &Scene<'_>, name: &str, signer: [PathBuf; 2]) -> String {
    let files = scene.path(name).join("usr/lib/foreign");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join(name), name).unwrap();
    scene.build_signed(name, name, signer, &[])
}

fn place(scene: &Scene<'_>, certificate: &Path, name: &str) {
    let trusted = format!("--certificate={}", certificate.display());
    let image = scene.path(&format!("{name}.sysext.raw"));
    on_esp(
        scene,
        "esp place",
        &[trusted, "--force".to_owned(), image.display().to_string()],
    );
}

/// What `trust status` says of images that this certificate's key signed.
fn fate(scene: &Scene<'_>, certificate: &Path, more: &[String]) -> String {
    let mut rest = vec![
        "--secure-boot".to_owned(),
        format!("--certificate={}", certificate.display()),
    ];
    rest.extend_from_slice(more);
    let said = on_esp(scene, "trust status", &rest);
    let line = said.lines().find(|line| line.starts_with("certificate "));
    line.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn lab_a_uki_like_fedoras_takes_what_db_or_an_addon_vouches_for() {
    let Some(foreign) = Foreign::new("fedora.efi") else {
        return;
    };
    // It is read right, and what it lacks is said.
    let scene = foreign.scene();
    let uki = scene.esp().join("EFI/Linux/vendor.efi");
    let mut inspect = ukikit();
    inspect.args(["uki", "inspect", "--json=short"]).arg(&uki);
    let said = succeed("uki inspect", inspect.output().unwrap());
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(said["release"]["ID"], "fedora", "{said}");
    assert_eq!(said["release"]["VERSION_ID"], "43");
    assert_eq!(said["systemd"], 262);
    assert_eq!(said["tpmLibraries"], true);
    assert_eq!(said["certificates"], json!([]));
    let lacks = said["lacks"].as_array().unwrap();
    assert_eq!(lacks.len(), 1, "{lacks:?}");
    let certificate = "a certificate in usr/lib/verity.d/*.crt: only images that the kernel's keyrings know are merged";
    assert_eq!(lacks[0]["what"], certificate);

    // Trusted by nobody: and the image is whole.
    let [key, certificate] = signer("other");
    let said = build(&scene, "stranger", [key.clone(), certificate.clone()]);
    assert!(said.contains("release    ID=fedora\n"), "{said}");
    assert!(said.contains("           VERSION_ID=43\n"), "{said}");
    place(&scene, &certificate, "stranger");
    let said = fate(&scene, &certificate, &[]);
    let refused = ": not merged, neither verity.d nor a given db has it";
    assert!(said.ends_with(refused), "{said}");
    let report = scene.boot_to("after-stub");
    assert_eq!(report.merged("/usr"), [""; 0], "{}", report.fact("journal"));

    // The addon with the certificate, signed for the firmware.
    let mut trust = foreign.key().to_vec();
    trust.push(certificate.display().to_string());
    on_esp(&scene, "trust add", &trust);
    let said = fate(&scene, &certificate, &[]);
    assert!(
        said.contains(": merged, by /usr/lib/verity.d/ukikit-"),
        "{said}"
    );
    let report = scene.boot_to("after-stub");
    assert_eq!(
        report.merged("/usr"),
        ["stranger"],
        "{}",
        report.fact("journal")
    );

    // The certificate in db, and nothing in the initrd.
    let scene = foreign.scene();
    let [key, certificate] = ["sb.key", "sb.crt"].map(|name| foreign.room.path(name));
    build(&scene, "owner", [key, certificate.clone()]);
    place(&scene, &certificate, "owner");
    let boot = fs::read_dir(foreign.packages.join("boot")).unwrap();
    let mut files = boot.map(|entry| entry.unwrap().path().display().to_string());
    let config = files.find(|path| path.contains("/config-")).unwrap();
    let db = format!("--db={}", certificate.display());
    let said = fate(
        &scene,
        &certificate,
        &[db, format!("--kernel-config={config}")],
    );
    assert!(
        said.ends_with(": merged, by the kernel, through db"),
        "{said}"
    );
    let report = scene.boot_to("after-stub");
    assert_eq!(
        report.merged("/usr"),
        ["owner"],
        "{}",
        report.fact("journal")
    );
}

/// No systemd-sysext, no libcryptsetup, no driver that merging takes, no library for the TPM.
#[test]
fn lab_addons_bring_what_a_bare_uki_lacks() {
    let Some(foreign) = Foreign::new("bare.efi") else {
        return;
    };
    let scene = foreign.scene();
    let [key, certificate] = signer("other");
    build(&scene, "stranger", [key, certificate.clone()]);
    place(&scene, &certificate, "stranger");
    fs::write(scene.path("lab.secret"), SECRET).unwrap();
    scene.encrypt("lab.secret");
    let companions = scene.esp().join("EFI/Linux/vendor.efi.extra.d");
    fs::copy(
        scene.path("lab.secret.cred"),
        companions.join("lab.secret.cred"),
    )
    .unwrap();
    let rules = |scene: &Scene<'_>| {
        let mut check = ukikit();
        check.args(["check", "--secure-boot", "--json=short"]);
        check
            .args(["--uki=EFI/Linux/vendor.efi", "--esp"])
            .arg(scene.esp());
        let said = check.output().unwrap().stdout;
        let said: Value = serde_json::from_slice(&said).unwrap();
        let findings = said["findings"].as_array().unwrap().iter();
        let errors = findings.filter(|finding| finding["level"] == "error");
        let mut rules: Vec<String> = errors
            .map(|finding| finding["rule"].as_str().unwrap().to_owned())
            .collect();
        rules.dedup();
        rules
    };
    let said = rules(&scene);
    for rule in ["initrd-lacks", "credential-tpm-library"] {
        assert!(said.iter().any(|found| found == rule), "{said:?}");
    }
    let report = scene.boot_to("after-stub");
    assert_eq!(report.fact("sysext"), "");
    assert_eq!(report.fact("credential/lab.secret"), "");

    let mut trust = foreign.key().to_vec();
    trust.push(certificate.display().to_string());
    on_esp(&scene, "trust add", &trust);
    for recipe in ["extensions", "tpm2", "pcrextend"] {
        let addon = scene.path(&format!("{recipe}.addon.efi"));
        let mut build = ukikit();
        build.args(["addon", "build", "--recipe", recipe]);
        build.args(foreign.key());
        build
            .arg("--uki")
            .arg(scene.esp().join("EFI/Linux/vendor.efi"));
        build.arg("--root").arg(&foreign.packages);
        build.arg("--output").arg(&addon);
        succeed("addon build", build.output().unwrap());
        on_esp(&scene, "esp place", &[addon.display().to_string()]);
    }
    assert_eq!(rules(&scene), [""; 0]);
    // The separator that systemd-pcrosseparator measures is predicted too.
    let report = scene.boot_to("os-separator");
    let journal = report.fact("journal");
    assert_eq!(report.merged("/usr"), ["stranger"], "{journal}");
    assert_eq!(
        report.fact("credential/lab.secret").as_bytes(),
        SECRET,
        "{journal}"
    );
}

/// The vendor's kernel, its update, and two sets of extensions: the secret is for those that the admin signed for.
#[test]
fn lab_a_secret_opens_under_what_the_admin_approved() {
    let Some(foreign) = Foreign::new("vendor.efi") else {
        return;
    };
    let scene = foreign.scene();
    let room = &foreign.room;
    let file = |name: &str| room.path(name).display().to_string();
    let (private, public) = (file("policy.key"), file("policy.pem"));
    run("openssl", ["genrsa", "-out", &private, "2048"]);
    run(
        "openssl",
        ["rsa", "-in", &private, "-pubout", "-out", &public],
    );
    let [key, certificate] = signer("rsa2048");
    for name in ["approved", "another"] {
        build(&scene, name, [key.clone(), certificate.clone()]);
    }
    place(&scene, &certificate, "approved");

    fs::write(scene.path("lab.secret"), SECRET).unwrap();
    let identity = scene.path("identity.json");
    fs::write(&identity, crate::tpm_identity(scene.tpm.path())).unwrap();
    let mut encrypt = ukikit();
    encrypt.args(["cred", "encrypt", "--with-key=tpm2-with-public-key"]);
    encrypt.args(["--target-systemd=262", "--tpm2-public-key-pcrs=11+13"]);
    encrypt.arg(format!("--tpm2-public-key={public}"));
    encrypt.arg("--for").arg(&identity);
    encrypt.arg(scene.path("lab.secret"));
    encrypt.arg(scene.path("lab.secret.cred"));
    succeed("cred encrypt", encrypt.output().unwrap());
    let credential = scene.path("lab.secret.cred").display().to_string();
    on_esp(&scene, "esp place", &["--force".to_owned(), credential]);

    let approve = || {
        let mut rest = foreign.key().to_vec();
        rest.push("--extensions".to_owned());
        rest.push(format!("--private-key={private}"));
        rest.push(format!("--public-key={public}"));
        on_esp(&scene, "trust approve", &rest);
    };
    let opened = || {
        let report = scene.boot();
        report.assert_initrd();
        let secret = report.fact("credential/lab.secret");
        assert!(secret.is_empty() || secret.as_bytes() == SECRET);
        (!secret.is_empty(), report.fact("journal"))
    };
    approve();
    let (opens, journal) = opened();
    assert!(opens, "an approved kernel: {journal}");

    // The vendor's next one: the same but for a word of its command line.
    let update = room.path("update.efi");
    let lab = PathBuf::from(setting("UKIKIT_FEATURE_LAB_262").unwrap());
    fs::copy(lab.join("vendor.efi"), room.path("old.efi")).unwrap();
    let words = ["systemd.log_target=journal", "systemd.log_target=kmsg   "];
    let mut bytes = fs::read(room.path("old.efi")).unwrap();
    let mut places = bytes.windows(words[0].len());
    let at = places
        .position(|window| window == words[0].as_bytes())
        .unwrap();
    bytes[at..at + words[1].len()].copy_from_slice(words[1].as_bytes());
    fs::write(&update, bytes).unwrap();
    sign(room, &update);
    fs::copy(&update, scene.esp().join("EFI/Linux/vendor.efi")).unwrap();
    let (opens, journal) = opened();
    assert!(!opens, "a kernel that nobody approved: {journal}");

    approve();
    let (opens, journal) = opened();
    assert!(opens, "its update, after one signature: {journal}");

    place(&scene, &certificate, "another");
    let (opens, journal) = opened();
    assert!(!opens, "extensions that nobody approved: {journal}");
}
