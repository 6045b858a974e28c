//! A tree of planted faults: for each rule one, and `check` finds exactly these.

use std::fs;

use ukikit_creds::{Key, PcrPolicy, Timestamp};
use ukikit_sysext::{ImageClass, Scope};

use crate::scene::{
    Feature, KERNEL, Scene, Vendor, binding, bound_to_pcr_12, credential, elf_that_needs,
    elf_that_needs_in, signed, sized_credential,
};
use crate::support::{identities, pe, vector};

/// What is to be found: rule and file.
type Expected = Vec<(&'static str, String)>;

#[test]
fn each_planted_fault_is_found_and_nothing_else() {
    let scene = Scene::new();
    let mut expected = Expected::new();
    for plant in [
        names,
        companions_of_all,
        credentials,
        other_systems,
        starts,
        bad_images,
        misfits,
        layers,
        units,
    ] {
        plant(&scene, &mut expected);
    }
    fs::write(scene.path("host.json"), identities::of_vector("a")).unwrap();
    let mut expected: Vec<_> = expected
        .into_iter()
        .map(|(rule, file)| (rule.to_owned(), file))
        .collect();
    expected.sort();
    let found = scene.findings(&["--esp=esp", "--for=host.json"]);
    assert_eq!(found, expected);

    let mut rules: Vec<&str> = expected.iter().map(|(rule, _)| rule.as_str()).collect();
    rules.dedup();
    assert_eq!(rules.len(), expected.len(), "one fault for each rule");
    // Of a planned image, by a kernel that tells its codecs, on a partition that is full, with an initrd that runs: see the tests of their own.
    let elsewhere = [
        "image-codec",
        "image-content",
        "esp-space",
        "rehearsal-merge",
        "rehearsal-generator",
    ];
    let all: Vec<&str> = ukikit::check::RULES.iter().map(|rule| rule.id).collect();
    let missing: Vec<&&str> = all
        .iter()
        .filter(|id| !rules.contains(id) && !elsewhere.contains(id))
        .collect();
    assert_eq!(missing, [&""; 0]);
}

/// Sealed to the TPM of the host, without PCRs.
fn sealed(name: &str) -> Vec<u8> {
    credential(name, &Key::Tpm(&binding("a", false, PcrPolicy::default())))
}

fn own(uki: &str, file: &str) -> String {
    format!("EFI/Linux/{uki}.efi.extra.d/{file}")
}

fn names(scene: &Scene, expected: &mut Expected) {
    scene.uki("names", &Vendor::default());
    for (rule, file) in [
        ("name-not-taken", "né.cred"),
        ("stray-file", "note.txt"),
        ("suffix-case", "KEY.CRED"),
    ] {
        scene.own("names", file, sealed("x"));
        expected.push((rule, own("names", file)));
    }
    for file in ["twin.cred", "Twin.cred"] {
        scene.own("names", file, sealed(file.trim_end_matches(".cred")));
    }
    expected.push(("case-clash", own("names", "Twin.cred")));
    scene.write("EFI/Linux/names+3-0.efi.extra.d/x.cred", "");
    expected.push((
        "counter-in-directory",
        "EFI/Linux/names+3-0.efi.extra.d".into(),
    ));
    scene.write("EFI/Linux/gone.efi.extra.d/x.cred", "");
    expected.push(("no-uki", "EFI/Linux/gone.efi.extra.d".into()));
    scene.write("loader/extensions/lost.cred", "");
    expected.push(("wrong-directory", "loader/extensions/lost.cred".into()));
}

/// What every UKI loads, good in itself.
fn companions_of_all(scene: &Scene, _: &mut Expected) {
    scene.write("loader/credentials/dup.cred", sealed("dup"));
    scene.write(
        "loader/extensions/both.sysext.raw",
        Feature::new("both").build(),
    );
}

fn credentials(scene: &Scene, expected: &mut Expected) {
    scene.uki("creds", &Vendor::default());
    let mut plant = |rule, file: &str, content: Vec<u8>| {
        scene.own("creds", file, content);
        expected.push((rule, own("creds", file)));
    };
    let past = Timestamp::from_micros(1_700_000_000_000_000);
    plant(
        "credential-damaged",
        "damaged.cred",
        b"not a credential".to_vec(),
    );
    plant(
        "credential-encoding",
        "fstab.extra.cred",
        binary(&sealed("fstab.extra")),
    );
    plant(
        "credential-too-large",
        "big.cred",
        vec![b'A'; 1024 * 1024 + 1],
    );
    plant(
        "credential-host-key",
        "hello.cred",
        fs::read(vector("creds/cred/262-host-hello.cred")).unwrap(),
    );
    plant(
        "credential-null",
        "plain.cred",
        credential("plain", &Key::Null),
    );
    plant(
        "credential-name",
        "renamed.cred",
        credential("other", &Key::Null),
    );
    plant(
        "credential-expired",
        "old.cred",
        sized_credential("old", &Key::Null, 16, Some(past)),
    );
    let to_pcr_12 = binding("a", false, bound_to_pcr_12());
    plant(
        "credential-pcr",
        "pcr.cred",
        credential("pcr", &Key::Tpm(&to_pcr_12)),
    );
    let by_signature = binding("a", false, signed());
    plant(
        "credential-signature",
        "system.hostname.cred",
        credential("system.hostname", &Key::Tpm(&by_signature)),
    );
    let to_another = binding("b", true, PcrPolicy::default());
    plant(
        "credential-tpm",
        "foreign.cred",
        credential("foreign", &Key::Tpm(&to_another)),
    );
    plant("credential-budget", "y2.cred", of_600_kib("y2"));
    scene.own("creds", "y1.cred", of_600_kib("y1"));
    scene.own("creds", "dup.cred", sealed("dup"));
    expected.push(("credential-hidden", "loader/credentials/dup.cred".into()));
}

fn of_600_kib(name: &str) -> Vec<u8> {
    let to_tpm = binding("a", false, PcrPolicy::default());
    sized_credential(name, &Key::Tpm(&to_tpm), 450 * 1024, None)
}

/// Without the Base64.
fn binary(text: &[u8]) -> Vec<u8> {
    let parsed = ukikit_creds::EncryptedCredential::parse(text, ukikit_creds::Encoding::Base64);
    parsed.unwrap().as_bytes().to_vec()
}

fn other_systems(scene: &Scene, expected: &mut Expected) {
    let older = Vendor {
        systemd: 257,
        ..Vendor::default()
    };
    scene.uki("older", &older);
    let pinned = binding("a", true, PcrPolicy::default());
    scene.own(
        "older",
        "pinned.cred",
        credential("pinned", &Key::Tpm(&pinned)),
    );
    expected.push(("credential-type", own("older", "pinned.cred")));

    let strict = Vendor {
        cmdline: "systemd.credentials_boot_policy=strict".into(),
        ..Vendor::default()
    };
    scene.uki("strict", &strict);
    scene.own("strict", "null.cred", credential("null", &Key::Null));
    expected.push(("credential-null-refused", own("strict", "null.cred")));

    let no_tpm = Vendor {
        without: vec!["usr/lib/libtss2-esys.so.0"],
        ..Vendor::default()
    };
    scene.uki("no-tpm", &no_tpm);
    expected.push((
        "credential-tpm-library",
        "loader/credentials/dup.cred".into(),
    ));

    let poor = Vendor {
        without: vec!["usr/lib/libcryptsetup.so.12"],
        ..Vendor::default()
    };
    scene.uki("poor", &poor);
    expected.push(("initrd-lacks", "EFI/Linux/poor.efi".into()));

    let misnamed = Vendor {
        with: vec![("usr/lib/verity.d/more.pem".into(), Vec::new())],
        ..Vendor::default()
    };
    scene.uki("misnamed", &misnamed);
    expected.push(("certificate-suffix", "EFI/Linux/misnamed.efi".into()));

    scene.write("EFI/Linux/broken.efi", "not a PE file");
    expected.push(("uki-unreadable", "EFI/Linux/broken.efi".into()));
}

fn starts(scene: &Scene, expected: &mut Expected) {
    scene.uki("start", &Vendor::default());
    let entry = |name: &str, line: &str| {
        let path = format!("loader/entries/{name}.conf");
        scene.write(&path, format!("uki /EFI/Linux/start.efi\n{line}\n"));
        path
    };
    expected.push(("profile-missing", entry("seventh", "profile 7")));
    expected.push(("extra-missing", entry("extra", "extra /tok/missing.cred")));
    expected.push(("options-ignored", entry("tab", "options quiet\tsplash")));
    entry("closed", "options systemd.import_credentials=no");
    expected.push(("import-off", "loader/credentials/dup.cred".into()));
    let kernel_only = Vendor {
        cmdline: "systemd.allow_userspace_verity=no".into(),
        ..Vendor::default()
    };
    scene.uki("kernel-only", &kernel_only);
    expected.push(("userspace-verity-off", "EFI/Linux/kernel-only.efi".into()));
    let open = Vendor {
        cmdline: "systemd.image_policy=root=unprotected".into(),
        ..Vendor::default()
    };
    scene.uki("open", &open);
    expected.push(("image-policy-open", "EFI/Linux/open.efi".into()));
    let addon = pe::addon(&[(".cmdline", b"quiet"), (".uname", b"1.2.3")]);
    scene.own("start", "other.addon.efi", addon);
    expected.push(("addon-ignored", own("start", "other.addon.efi")));
}

/// Beside one UKI, so that what is good is dragged down by one of them: the extension of all UKIs.
fn bad_images(scene: &Scene, expected: &mut Expected) {
    scene.uki("bad", &Vendor::default());
    let mut plant = |rule, file: &str, content: Vec<u8>| {
        scene.own("bad", file, content);
        expected.push((rule, own("bad", file)));
    };
    let mut damaged = Feature::new("damaged").build();
    damaged[41 * 512] ^= 1;
    plant("image-damaged", "damaged.sysext.raw", damaged);
    plant(
        "image-unsigned",
        "unsigned.sysext.raw",
        without_signature(Feature::new("unsigned").build()),
    );
    let mut untrusted = Feature::new("untrusted");
    untrusted.signer = "other";
    plant("image-untrusted", "untrusted.sysext.raw", untrusted.build());
    plant(
        "image-release-file",
        "renamed.sysext.raw",
        Feature::new("named").build(),
    );
    expected.push(("all-or-nothing", "loader/extensions/both.sysext.raw".into()));
}

/// The text in the signature partition taken away.
fn without_signature(mut image: Vec<u8>) -> Vec<u8> {
    let text = b"{\"rootHash\"";
    let at = image.windows(text.len()).rposition(|part| part == text);
    let at = at.expect("a signature partition");
    image[at..at + 4096].fill(0);
    image
}

fn misfits(scene: &Scene, expected: &mut Expected) {
    scene.uki("misfit", &Vendor::default());
    let mut plant = |rule, feature: Feature| {
        let file = format!("{}.sysext.raw", feature.name);
        scene.own("misfit", &file, feature.build());
        expected.push((rule, own("misfit", &file)));
    };
    let mut system = Feature::new("system");
    system.scope = Scope::System;
    plant("image-scope", system);
    plant(
        "image-release",
        Feature::new("foreign").field("ID", "fedora"),
    );
    let mut arm = Feature::new("arm");
    arm.architecture = "arm64";
    plant("image-architecture", arm.field("ARCHITECTURE", "arm64"));
    scene.own("misfit", "both.raw", Feature::new("both").build());
    expected.push(("image-hidden", "loader/extensions/both.sysext.raw".into()));
}

fn layers(scene: &Scene, expected: &mut Expected) {
    scene.uki("layers", &Vendor::default());
    let mut plant = |rule, feature: Feature| {
        let kind = if feature.class == ImageClass::Confext {
            "confext"
        } else {
            "sysext"
        };
        let file = format!("{}.{kind}.raw", feature.name);
        scene.own("layers", &file, feature.build());
        expected.push((rule, own("layers", &file)));
    };
    plant(
        "extension-conflict",
        Feature::new("below").file("usr/share/x", "one"),
    );
    plant(
        "base-replaced",
        Feature::new("replacing").file("usr/bin/tool", "another"),
    );
    plant(
        "directory-masked",
        Feature::new("masking").link("usr/share/data", "elsewhere"),
    );
    let index = "usr/lib/modules/6.18.0/modules.dep";
    plant(
        "module-index",
        Feature::new("modules").file(index, "kernel/b.ko:\n"),
    );
    let program = elf_that_needs("libnowhere.so.1");
    plant(
        "library-missing",
        Feature::new("program").file("usr/bin/program", program),
    );
    let mut confext = Feature::new("settings").file("etc/setting", "1");
    confext.class = ImageClass::Confext;
    plant("confext-read-only", confext);
    let good = Feature::new("zabove")
        .file("usr/share/x", "two")
        .file("usr/bin/linked", elf_that_needs("libc.so.6"))
        .file("usr/lib/tool/libown.so.1", elf_that_needs("libc.so.6"))
        .file(
            "usr/bin/tool-of-its-own",
            elf_that_needs_in("libown.so.1", "/usr/lib/tool"),
        );
    scene.own("layers", "zabove.sysext.raw", good.build());
    assert_eq!(KERNEL, "6.18.0");
}

const NO_RELOAD: (&str, &str) = (
    "usr/lib/systemd/system/systemd-sysext-initrd.service.d/50-no-reload.conf",
    "[Service]\nExecStop=\nExecStop=systemd-sysext unmerge --no-reload\n",
);

fn units(scene: &Scene, expected: &mut Expected) {
    scene.uki("reload", &Vendor::default());
    let reloading = Feature::new("reloading").field("EXTENSION_RELOAD_MANAGER", "1");
    scene.own("reload", "reloading.raw", reloading.build());
    expected.push(("switch-root", own("reload", "reloading.raw")));

    scene.uki("quiet", &Vendor::default());
    let unseen = Feature::new("unseen")
        .file("usr/lib/systemd/system/unseen.target", "[Unit]\n")
        .link(
            "usr/lib/systemd/system/sysinit.target.upholds/unseen.target",
            "../unseen.target",
        );
    scene.own("quiet", "unseen.raw", unseen.build());
    expected.push(("reload-missing", own("quiet", "unseen.raw")));

    scene.uki("units", &Vendor::default());
    let mut plant = |rule, feature: Feature| {
        let file = format!("{}.raw", feature.name);
        scene.own(
            "units",
            &file,
            feature.file(NO_RELOAD.0, NO_RELOAD.1).build(),
        );
        expected.push((rule, own("units", &file)));
    };
    let unit = "[Service]\nExecStart=true\n";
    plant(
        "wants-too-late",
        Feature::new("late")
            .file("usr/lib/systemd/system/late.service", unit)
            .link(
                "usr/lib/systemd/system/sysinit.target.wants/late.service",
                "../late.service",
            ),
    );
    plant(
        "upheld-service",
        Feature::new("upheld")
            .field("EXTENSION_RELOAD_MANAGER", "1")
            .file("usr/lib/systemd/system/upheld.service", unit)
            .link(
                "usr/lib/systemd/system/sysinit.target.upholds/upheld.service",
                "../upheld.service",
            ),
    );
    plant(
        "restart-unit-waits",
        Feature::new("waiting")
            .field("EXTENSION_RESTART_UNITS", "waiting.service")
            .file("usr/lib/systemd/system/waiting.service", unit),
    );
    plant(
        "restart-unit-of-base",
        Feature::new("restarting").field("EXTENSION_RESTART_UNITS", "base.service"),
    );
}
