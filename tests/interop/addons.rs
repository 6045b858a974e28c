//! Our addons through ukify, and ukify's through ours.

use std::fs;

use serde_json::Value;

use crate::support::swtpm::Swtpm;
use crate::support::systemd::Systemd;
use crate::support::uki::pe_file;
use crate::support::{run, succeed, text, ukikit, vector};

/// ukify reads ours; we read, and find nothing against, what ukify makes.
#[test]
fn ukify_and_we_agree() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    let addon = |arguments: &str| {
        let mut command = ukikit();
        command
            .arg("addon")
            .args(arguments.split(' '))
            .current_dir(room.directory());
        text(&succeed(arguments, command.output().unwrap()))
    };
    fs::create_dir_all(room.path("tree/usr/lib")).unwrap();
    room.write("tree/usr/lib/greeting", b"hello");
    addon(
        "build --architecture=x86-64 --output=feature.addon.efi --tree=tree --cmdline=quiet --uname=6.18.0",
    );
    let read = room.run(
        "ukify",
        &["inspect", "feature.addon.efi", "--json=short", "--all"],
    );
    let theirs: Value = serde_json::from_slice(&succeed("ukify inspect", read)).unwrap();
    let json: Value =
        serde_json::from_str(&addon("inspect --json=short feature.addon.efi")).unwrap();
    for section in json["sections"].as_array().unwrap() {
        let name = section["name"].as_str().unwrap();
        assert_eq!(theirs[name]["size"], section["size"], "{name}: {theirs}");
        assert_eq!(
            theirs[name]["sha256"], section["sha256"],
            "{name}: {theirs}"
        );
    }

    let build = [
        "build",
        "--cmdline=quiet splash",
        "--uname=6.18.0",
        "--output=theirs.addon.efi",
    ];
    succeed("ukify build", room.run("ukify", &build));
    let json: Value =
        serde_json::from_str(&addon("inspect --json=short theirs.addon.efi")).unwrap();
    assert_eq!(json["cmdline"], "quiet splash");
    // ukify does not terminate the version.
    assert_eq!(
        addon("verify theirs.addon.efi"),
        "theirs.addon.efi: good, signatures not looked at\n\
         theirs.addon.efi: warning: its kernel version has no NUL at its end, so it fits every version that begins with 6.18.0\n"
    );
}

/// Our approvals of a kernel are those that systemd-measure signs, byte for byte, and the vendor's stay.
#[test]
fn systemd_measure_and_we_sign_the_same() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    fs::copy(vector("ddi/keys/rsa2048.key"), room.path("private.pem")).unwrap();
    let private = room.path("private.pem").display().to_string();
    let public = room.path("public.pem").display().to_string();
    run(
        "openssl",
        ["pkey", "-in", &private, "-pubout", "-out", &public],
    );
    let sections: [(&str, &[u8]); 4] = [
        ("linux", b"kernel"),
        ("osrel", b"ID=vendor\n"),
        ("cmdline", b"quiet"),
        ("initrd", b"070701"),
    ];
    let mut sign: Vec<String> = [
        "sign",
        "--bank=sha256",
        "--private-key=private.pem",
        "--public-key=public.pem",
    ]
    .map(str::to_owned)
    .to_vec();
    for (name, content) in sections {
        room.write(name, content);
        sign.push(format!("--{name}={name}"));
    }
    let initrd = "enter-initrd:leave-initrd";
    let phases = [
        "",
        "enter-initrd",
        initrd,
        &format!("{initrd}:sysinit"),
        &format!("{initrd}:sysinit:ready"),
    ];
    sign.extend(phases.iter().map(|phase| format!("--phase={phase}")));
    let theirs = succeed(
        "systemd-measure",
        room.run("/usr/lib/systemd/systemd-measure", &sign),
    );
    let theirs: Value = serde_json::from_slice(&theirs).unwrap();

    let vendor = r#"{"sha256":[{"pcrs":[11],"pkfp":"aa","pol":"bb","sig":"cc"}]}"#;
    for (pcrsig, before) in [(None, 0), (Some(vendor), 1)] {
        let named = sections.map(|(name, content)| (format!(".{name}"), content));
        let mut all: Vec<(&str, &[u8])> = named
            .iter()
            .map(|(name, content)| (name.as_str(), *content))
            .collect();
        all.extend(pcrsig.map(|text| (".pcrsig", text.as_bytes())));
        fs::create_dir_all(room.path("esp/EFI/Linux")).unwrap();
        room.write("esp/EFI/Linux/vendor.efi", &pe_file(&all));
        let approve = "trust approve --esp=esp --uki=EFI/Linux/vendor.efi --private-key=private.pem \
                       --public-key=public.pem --signature=ours.json";
        let output = ukikit()
            .args(approve.split_whitespace())
            .current_dir(room.directory())
            .output();
        succeed(approve, output.unwrap());
        let ours: Value = serde_json::from_slice(&room.read("ours.json")).unwrap();
        let entries = ours["sha256"].as_array().unwrap();
        assert_eq!(entries[before..], *theirs["sha256"].as_array().unwrap());
        assert_eq!(entries.len(), before + phases.len());
    }
}

/// A credential for the kernels and extension sets that a key's owner signs for: opened by all where one is met, by none where not.
#[test]
fn systemd_creds_open_what_was_approved() {
    let systemds: Vec<Systemd> = [257, 262].into_iter().filter_map(Systemd::find).collect();
    let Some(systemd) = systemds.last() else {
        return;
    };
    let room = systemd.room();
    let ours = |arguments: &str| {
        let mut command = ukikit();
        command.args(arguments.split_whitespace());
        command.current_dir(room.directory()).output().unwrap()
    };
    let keys = vector("ddi/keys/rsa2048.key");
    fs::copy(keys, room.path("private.pem")).unwrap();
    let [private, public] = ["private.pem", "public.pem"].map(|name| room.path(name));
    let [private, public] = [private, public].map(|path| path.display().to_string());
    run(
        "openssl",
        ["pkey", "-in", &private, "-pubout", "-out", &public],
    );
    let companions = "esp/EFI/Linux/vendor.efi.extra.d";
    fs::create_dir_all(room.path(companions)).unwrap();
    room.write(
        "esp/EFI/Linux/vendor.efi",
        &pe_file(&[
            (".linux", b"kernel"),
            (".initrd", b"070701"),
            (".osrel", b"ID=vendor\n"),
        ]),
    );
    room.write(&format!("{companions}/a.sysext.raw"), b"an image");
    let approve = "trust approve --esp=esp --uki=EFI/Linux/vendor.efi --extensions --private-key=private.pem \
                   --public-key=public.pem --signature=signature.json";
    succeed(approve, ours(approve));
    let predict = "predict --esp=esp --uki=EFI/Linux/vendor.efi --json=short --bank=sha256";
    let predicted: Value = serde_json::from_slice(&succeed(predict, ours(predict))).unwrap();

    let tpm = Swtpm::start("a");
    let device = format!("--tpm2-device={}", tpm.device());
    let identity = succeed(
        "tpm identity",
        ours(&format!(
            "tpm identity {device} --machine-id=0123456789abcdef0123456789abcdef"
        )),
    );
    room.write("identity.json", &identity);
    room.write("plain", b"a secret");
    let encrypt = "cred encrypt --for=identity.json --target-systemd=257 --with-key=tpm2-with-public-key \
                   --tpm2-public-key=public.pem --tpm2-public-key-pcrs=11+13 --name=secret plain secret.cred";
    succeed(encrypt, ours(encrypt));
    let open = || {
        let mut opened = vec![ours(&format!(
            "cred decrypt {device} --tpm2-signature=signature.json --name=secret secret.cred -"
        ))];
        for systemd in &systemds {
            let other = systemd.room();
            for name in ["secret.cred", "signature.json"] {
                other.write(name, &room.read(name));
            }
            let arguments = [
                "--name=secret",
                &device,
                "--tpm2-signature=/io/signature.json",
                "decrypt",
                "secret.cred",
                "-",
            ];
            opened.push(other.run("systemd-creds", &arguments));
            tpm.flush();
        }
        opened
    };
    let refused = || {
        for output in open() {
            assert!(!output.status.success() && output.stdout.is_empty());
        }
    };
    refused();
    for event in predicted["events"].as_array().unwrap() {
        let pcr = u32::try_from(event["pcr"].as_u64().unwrap()).unwrap();
        if pcr == 11 || pcr == 13 {
            let digest = event["digests"]["sha256"].as_str().unwrap();
            tpm.extend(pcr, "sha256", &hex::decode(digest).unwrap());
        }
    }
    let opened = open();
    assert_eq!(opened.len(), 3);
    for output in opened {
        assert_eq!(succeed("decrypt", output), b"a secret");
    }
    // One more extension.
    tpm.extend(13, "sha256", &[7; 32]);
    refused();
}

/// The digest that we sign is the one that systemd-sbsign signed, and each takes what the other made.
#[test]
fn systemd_sbsign_and_we_sign_the_same() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    for file in ["rsa2048.key", "rsa2048.crt"] {
        fs::copy(vector(&format!("ddi/keys/{file}")), room.path(file)).unwrap();
    }
    let ours = |arguments: &str| {
        let mut command = ukikit();
        command.args(arguments.split_whitespace());
        let output = command.current_dir(room.directory()).output().unwrap();
        text(&succeed(arguments, output))
    };
    ours("addon build --architecture=x86-64 --cmdline=quiet --output=a.addon.efi");
    let boot_loader = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    fs::copy(systemd.root().join(boot_loader), room.path("boot.efi")).unwrap();
    for file in ["a.addon.efi", "boot.efi"] {
        let sign = |output: &str| {
            let arguments = [
                "sign",
                "--private-key=rsa2048.key",
                "--certificate=rsa2048.crt",
                &format!("--output={output}"),
                file,
            ];
            succeed(
                "systemd-sbsign",
                room.run("/usr/lib/systemd/systemd-sbsign", &arguments),
            );
        };
        sign("theirs.efi");
        ours(&format!(
            "pe sign --private-key=rsa2048.key --certificate=rsa2048.crt --output=ours.efi {file}"
        ));
        // A signature is not part of what is signed.
        let digest = |file: &str| {
            let said = ours(&format!("pe digest {file}"));
            let (_, digest) = said.split_once('\n').unwrap();
            digest.to_owned()
        };
        for signed in ["theirs.efi", "ours.efi"] {
            assert_eq!(digest(signed), digest(file));
            ours(&format!("pe verify --certificate=rsa2048.crt {signed}"));
            let [signed, certificate] = [signed, "rsa2048.crt"].map(|name| room.path(name));
            let [signed, certificate] =
                [signed, certificate].map(|path| path.display().to_string());
            run("sbverify", ["--cert", &certificate, &signed]);
        }
        // Behind our signature it puts its own.
        let again = [
            "sign",
            "--private-key=rsa2048.key",
            "--certificate=rsa2048.crt",
            "--output=both.efi",
            "ours.efi",
        ];
        let again = room.run("/usr/lib/systemd/systemd-sbsign", &again);
        succeed("systemd-sbsign", again);
        ours("pe verify --certificate=rsa2048.crt both.efi");
    }
}
