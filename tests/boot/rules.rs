//! What `ukikit check` says before a boot is what the boot then does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rand_core::UnwrapErr;
use serde_json::Value;
use ukikit_creds::{Credential, HostIdentity, Key, LINE, PcrPolicy, Secret, Timestamp, TpmBinding};
use ukikit_sysext::initrd::{self, Packing};
use ukikit_sysext::{Content, Entry, Kind, Tree};

use crate::report::Report;
use crate::support::{identities, pe, setting, succeed, ukikit, vector};
use crate::{Scene, lab};

/// One kind of release file each; the extension leaves its name behind in `/usr/share/lab/NAME`.
struct Image {
    name: &'static str,
    release: &'static str,
}

const GOOD: Image = Image {
    name: "good",
    release: "ID=debian\nSYSEXT_SCOPE=initrd\n",
};

/// Puts it on the ESP, whatever its release file says.
fn place(scene: &Scene<'_>, image: &Image, file: &str) {
    let tree = scene.path(&format!("tree-{}", image.name));
    let write = |path: String, content: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write(
        format!(
            "usr/lib/extension-release.d/extension-release.{}",
            image.name
        ),
        image.release,
    );
    write(format!("usr/share/lab/{}", image.name), image.name);
    let output = scene.path(&format!("{}.raw", image.name));
    build(image, &tree, &output);
    let to = scene.esp().join(file);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(output, to).unwrap();
}

fn build(image: &Image, tree: &Path, output: &Path) {
    let fields = image
        .release
        .lines()
        .filter_map(|line| line.split_once('='));
    let options = fields.filter_map(|(key, value)| match key {
        "SYSEXT_SCOPE" => Some(format!("--scope={value}")),
        "ARCHITECTURE" => Some(format!("--architecture={value}")),
        _ => None,
    });
    let options: Vec<String> = options.collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    build_from(tree, image.name, output, &options);
}

fn build_from(tree: &Path, name: &str, output: &Path, options: &[&str]) {
    let mut build = ukikit();
    build.args(["ext", "build", &format!("--name={name}")]);
    build.args(options);
    for (option, path) in [
        ("tree", tree.to_owned()),
        ("private-key", vector("ddi/keys/rsa2048.key")),
        ("certificate", vector("ddi/keys/rsa2048.crt")),
        ("output", output.to_owned()),
    ] {
        build.arg(format!("--{option}={}", path.display()));
    }
    succeed("ext build", build.output().unwrap());
}

/// Rule and file of every error and warning.
fn findings(scene: &Scene<'_>) -> Vec<(String, String)> {
    findings_with(scene, &[])
}

fn findings_with(scene: &Scene<'_>, arguments: &[&str]) -> Vec<(String, String)> {
    let mut check = ukikit();
    check
        .args(["check", "--json=short", "--esp"])
        .arg(scene.esp());
    check.args(arguments);
    let said: Value = serde_json::from_slice(&check.output().unwrap().stdout).unwrap();
    let rows = said["findings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found: Vec<_> = rows
        .map(|row| (text(&row["rule"]), text(&row["file"])))
        .collect();
    found.sort();
    found
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(rule, file): &(&str, &str)| (rule.to_string(), file.to_string());
    pairs.iter().map(own).collect()
}

fn merged(report: &Report) -> Vec<String> {
    report.assert_initrd();
    report.merged("/usr")
}

const OWN: &str = "EFI/Linux/vendor.efi.extra.d";

#[test]
fn lab_what_does_not_fit_is_skipped_and_the_rest_is_merged() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    place(&scene, &GOOD, &format!("{OWN}/good.sysext.raw"));
    place(&scene, &GOOD, "loader/extensions/good.raw");
    for (name, release) in [
        ("foreign", "ID=fedora\nSYSEXT_SCOPE=initrd\n"),
        (
            "arm",
            "ID=debian\nARCHITECTURE=arm64\nSYSEXT_SCOPE=initrd\n",
        ),
        ("wide", "ID=debian\nSYSEXT_SCOPE=system\n"),
    ] {
        let image = Image { name, release };
        place(&scene, &image, &format!("{OWN}/{name}.raw"));
    }
    // Its unit is upheld, and nothing reloads the manager.
    let quiet = scene.path("tree-quiet");
    write_upheld(&quiet, "quiet");
    place_built(&scene, "quiet", "sysext", &[]);
    assert_eq!(
        findings(&scene),
        pairs(&[
            ("image-architecture", &format!("{OWN}/arm.raw")),
            ("image-hidden", "loader/extensions/good.raw"),
            ("image-release", &format!("{OWN}/foreign.raw")),
            ("image-scope", &format!("{OWN}/wide.raw")),
            ("reload-missing", &format!("{OWN}/quiet.sysext.raw")),
        ])
    );
    let report = scene.boot();
    assert_eq!(merged(&report), ["good", "quiet"]);
    assert_eq!(report.fact("result/quiet"), "");
}

/// A service that leaves a trace, behind a target that sysinit.target upholds.
fn write_upheld(tree: &Path, name: &str) {
    let units = tree.join("usr/lib/systemd/system");
    let upholds = units.join("sysinit.target.upholds");
    fs::create_dir_all(&upholds).unwrap();
    let service = format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=sh -c 'mkdir -p /run/lab/results; echo it ran >/run/lab/results/{name}'\n"
    );
    fs::write(units.join(format!("{name}.service")), service).unwrap();
    let target = format!("[Unit]\nDefaultDependencies=no\nWants={name}.service\n");
    fs::write(units.join(format!("{name}.target")), target).unwrap();
    let link = format!("{name}.target");
    std::os::unix::fs::symlink(format!("../{link}"), upholds.join(link)).unwrap();
}

/// Builds `tree-NAME` and puts the image beside the UKI.
fn place_built(scene: &Scene<'_>, name: &str, kind: &str, options: &[&str]) {
    let image = scene.path(&format!("{name}.{kind}.raw"));
    build_from(&scene.path(&format!("tree-{name}")), name, &image, options);
    let to = scene.esp().join(format!("{OWN}/{name}.{kind}.raw"));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(image, to).unwrap();
}

/// An entry that starts the UKI with its own command line and this behind it.
fn start_with(scene: &Scene<'_>, options: &str) {
    let entries = scene.esp().join("loader/entries");
    fs::create_dir_all(&entries).unwrap();
    let entry = format!(
        "title lab\nuki /EFI/Linux/vendor.efi\noptions root=tmpfs console=ttyS0 rd.shell=0 \
         systemd.show_status=error systemd.log_target=journal {options}\n"
    );
    fs::write(entries.join("lab.conf"), entry).unwrap();
    let loader = "timeout 0\ndefault lab.conf\n";
    fs::write(scene.esp().join("loader/loader.conf"), loader).unwrap();
}

/// The kernel knows the key of the vendor's certificate no more than anybody else's.
#[test]
fn lab_without_user_space_no_certificate_of_the_initrd_counts() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    place(&scene, &GOOD, &format!("{OWN}/good.sysext.raw"));
    start_with(&scene, "systemd.allow_userspace_verity=no");
    assert_eq!(
        findings(&scene),
        pairs(&[("userspace-verity-off", "EFI/Linux/vendor.efi")])
    );
    assert_eq!(merged(&scene.boot()), [""; 0]);
}

#[test]
fn lab_one_bad_image_keeps_all_out() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    place(&scene, &GOOD, &format!("{OWN}/good.sysext.raw"));
    let unsigned = Image {
        name: "unsigned",
        ..GOOD
    };
    let file = scene.esp().join(format!("{OWN}/unsigned.raw"));
    place(&scene, &unsigned, &format!("{OWN}/unsigned.raw"));
    let mut image = fs::read(&file).unwrap();
    let text = b"{\"rootHash\"";
    let at = image
        .windows(text.len())
        .rposition(|part| part == text)
        .unwrap();
    image[at..at + 4096].fill(0);
    fs::write(&file, image).unwrap();
    assert_eq!(
        findings(&scene),
        pairs(&[
            ("all-or-nothing", &format!("{OWN}/good.sysext.raw")),
            ("image-unsigned", &format!("{OWN}/unsigned.raw")),
        ])
    );
    assert_eq!(merged(&scene.boot()), [""; 0]);
}

/// An addon whose initrd has these programs.
fn addon_of_programs(programs: &[(&str, &str)]) -> Vec<u8> {
    let mut tree = Tree::new();
    for (path, script) in programs {
        let program = Entry::new(0o755, Kind::File(Content::from_bytes(*script)));
        tree.insert(path, program).unwrap();
    }
    let initrd = initrd::write(&tree, Packing::None).unwrap();
    pe::addon(&[(".initrd", &initrd)])
}

/// A second opinion without a boot: the initrd's own programs agree, and where they are others this is found out.
#[test]
fn the_initrd_itself_merges_what_is_expected() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    place(&scene, &GOOD, &format!("{OWN}/good.sysext.raw"));
    let foreign = Image {
        name: "foreign",
        release: "ID=fedora\nSYSEXT_SCOPE=initrd\n",
    };
    place(&scene, &foreign, &format!("{OWN}/foreign.raw"));
    fs::create_dir_all(scene.path("tree-settings/etc")).unwrap();
    fs::write(scene.path("tree-settings/etc/lab-setting"), "1\n").unwrap();
    place_built(
        &scene,
        "settings",
        "confext",
        &["--confext", "--scope=initrd"],
    );
    let alone = findings(&scene);
    assert_eq!(
        alone,
        pairs(&[
            ("confext-read-only", &format!("{OWN}/settings.confext.raw")),
            ("image-release", &format!("{OWN}/foreign.raw")),
        ])
    );
    assert_eq!(findings_with(&scene, &["--rehearse"]), alone);

    let idle = "#!/bin/sh\nif [ $1 = status ]; then echo '[]'; fi\n";
    let addon = addon_of_programs(&[
        ("usr/bin/systemd-sysext", idle),
        (
            "usr/lib/systemd/system-generators/lab-broken",
            "#!/bin/sh\nexit 3\n",
        ),
    ]);
    fs::write(scene.esp().join(format!("{OWN}/other.addon.efi")), addon).unwrap();
    let mut expected = alone;
    expected.extend(pairs(&[
        ("rehearsal-generator", "EFI/Linux/vendor.efi"),
        ("rehearsal-merge", &format!("{OWN}/good.sysext.raw")),
        // systemd-confext is the same program by another name.
        ("rehearsal-merge", &format!("{OWN}/settings.confext.raw")),
    ]));
    assert_eq!(findings_with(&scene, &["--rehearse"]), expected);
}

/// A credential of that name, made with the library: the command line would refuse what cannot work.
fn credential(name: &str, key: &Key<'_>, size: usize, not_after: Option<Timestamp>) -> String {
    let made = Timestamp::from_micros(1_600_000_000_000_000);
    let secret = Secret::new(vec![b'x'; size]);
    let mut credential = Credential::new(Some(name.parse().unwrap()), made, secret);
    credential.not_after = not_after;
    let file = credential.encrypt(key, &mut UnwrapErr(getrandom::SysRng));
    file.unwrap().to_text(LINE)
}

fn sealed_to(state: &str, policy: PcrPolicy) -> TpmBinding {
    let identity = HostIdentity::from_json(identities::of_vector(state).as_bytes()).unwrap();
    let parent = identity.parent(true).unwrap();
    TpmBinding { parent, policy }
}

#[test]
fn lab_pid_1_imports_what_the_model_says() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    let write = |path: &str, content: &[u8]| {
        let path = scene.esp().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let here = sealed_to("a", PcrPolicy::default());
    let elsewhere = sealed_to("b", PcrPolicy::default());
    let of_nothing_measured = PcrPolicy {
        literal: [(12, vec![0; 32])].into(),
        ..PcrPolicy::default()
    };
    let to_pcr_12 = sealed_to("a", of_nothing_measured);
    let past = Some(Timestamp::from_micros(1_700_000_000_000_000));
    let (null, good) = (Key::Null, Key::Tpm(&here));
    for (name, content) in [
        ("lab.plain", credential("lab.plain", &null, 16, None)),
        ("lab.sealed", credential("lab.sealed", &good, 17, None)),
        ("lab.dup", credential("lab.dup", &good, 18, None)),
        ("lab.renamed", credential("lab.other", &null, 16, None)),
        ("lab.old", credential("lab.old", &null, 16, past)),
        (
            "lab.pcr",
            credential("lab.pcr", &Key::Tpm(&to_pcr_12), 16, None),
        ),
        (
            "lab.foreign",
            credential("lab.foreign", &Key::Tpm(&elsewhere), 16, None),
        ),
        ("fill.y1", credential("fill.y1", &good, 450 * 1024, None)),
        ("fill.y2", credential("fill.y2", &good, 450 * 1024, None)),
        ("lab.big", "A".repeat(1024 * 1024 + 1)),
    ] {
        write(&format!("{OWN}/{name}.cred"), content.as_bytes());
    }
    let host = fs::read(vector("creds/cred/262-host-empty-noname.cred")).unwrap();
    write(&format!("{OWN}/lab.host.cred"), &host);
    write(&format!("{OWN}/UPPER.CRED"), b"");
    let global = credential("lab.dup", &good, 99, None);
    write("loader/credentials/lab.dup.cred", global.as_bytes());

    let identity = scene.path("identity.json");
    fs::write(&identity, identities::of_vector("a")).unwrap();
    let own = |rule: &str, name: &str| (rule.to_owned(), format!("{OWN}/{name}"));
    let mut expected = vec![
        own("credential-budget", "fill.y2.cred"),
        own("credential-expired", "lab.old.cred"),
        (
            "credential-hidden".to_owned(),
            "loader/credentials/lab.dup.cred".to_owned(),
        ),
        own("credential-host-key", "lab.host.cred"),
        own("credential-name", "lab.renamed.cred"),
        own("credential-null", "lab.plain.cred"),
        own("credential-pcr", "lab.pcr.cred"),
        own("credential-too-large", "lab.big.cred"),
        own("credential-tpm", "lab.foreign.cred"),
        own("suffix-case", "UPPER.CRED"),
    ];
    expected.sort();
    let told = format!("--for={}", identity.display());
    assert_eq!(findings_with(&scene, &[&told]), expected);

    let report = scene.boot();
    report.assert_initrd();
    let names = |prefix: &str| -> Vec<String> {
        let names = report
            .facts
            .keys()
            .filter_map(|name| name.strip_prefix(prefix));
        names.map(str::to_owned).collect()
    };
    assert_eq!(
        names("encrypted/"),
        [
            "fill.y1",
            "lab.dup",
            "lab.foreign",
            "lab.host",
            "lab.old",
            "lab.pcr",
            "lab.plain",
            "lab.renamed",
            "lab.sealed"
        ]
    );
    assert_eq!(names("credential/"), ["lab.dup", "lab.plain", "lab.sealed"]);
    assert_eq!(report.fact("credential/lab.dup").len(), 18);
}

/// A unit that tells what the merged tree looks like, started as it should be.
const PROBE: [(&str, &str); 3] = [
    (
        "usr/lib/systemd/system/probe.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/lib/probe\n",
    ),
    (
        "usr/lib/systemd/system/probe.target",
        "[Unit]\nDefaultDependencies=no\nWants=probe.service\n",
    ),
    (
        "usr/lib/systemd/system/systemd-sysext-initrd.service.d/50-no-reload.conf",
        "[Service]\nExecStop=\nExecStop=systemd-sysext unmerge --no-reload\n",
    ),
];
const PROBE_PROGRAM: &str = "#!/bin/sh\nmkdir -p /run/lab/results; cd /run/lab/results || exit\n\
    cat /usr/share/lab-both >both; cat /usr/share/lab/file >replaced\n\
    if [ -e /usr/share/lab/base/file ]; then echo there; else echo gone; fi >masked\n\
    if echo x 2>/dev/null >/etc/written; then echo written; else echo refused; fi >etc\n\
    systemctl is-active late.service >late\n\
    /usr/lib/needy >/dev/null 2>&1; echo $? >needy\n";

#[test]
fn lab_layers_do_what_the_model_says() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    let tree = |name: &str| {
        let tree = scene.path(&format!("tree-{name}"));
        fs::create_dir_all(&tree).unwrap();
        tree
    };
    let write = |name: &str, path: &str, content: &str| {
        let path = tree(name).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let link = |name: &str, path: &str, target: &str| {
        let path = tree(name).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    };
    write("below", "usr/share/lab-both", "one\n");
    write("zabove", "usr/share/lab-both", "two\n");
    write("replacing", "usr/share/lab/file", "of the extension\n");
    link("masking", "usr/share/lab/base", "elsewhere");
    write("late", "usr/lib/systemd/system/late.service", PROBE[0].1);
    link(
        "late",
        "usr/lib/systemd/system/sysinit.target.wants/late.service",
        "../late.service",
    );
    for (path, content) in PROBE {
        write("probe", path, content);
    }
    write("probe", "usr/lib/probe", PROBE_PROGRAM);
    let program = tree("probe").join("usr/lib/probe");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    link(
        "probe",
        "usr/lib/systemd/system/sysinit.target.upholds/probe.target",
        "../probe.target",
    );
    write("settings", "etc/lab-setting", "1\n");

    // A program of a system that has the library liblzo2, which the initrd has not.
    write("needy", "usr/lib/needy", "");
    let root = PathBuf::from(setting("UKIKIT_ROOT_262").unwrap());
    fs::copy(
        root.join("usr/bin/unsquashfs"),
        tree("needy").join("usr/lib/needy"),
    )
    .unwrap();

    for name in ["below", "zabove", "replacing", "masking", "late", "needy"] {
        place_built(&scene, name, "sysext", &[]);
    }
    let reloads = "--release=EXTENSION_RELOAD_MANAGER=1";
    place_built(&scene, "probe", "sysext", &[reloads]);
    place_built(
        &scene,
        "settings",
        "confext",
        &["--confext", "--scope=initrd"],
    );
    assert_eq!(
        findings(&scene),
        pairs(&[
            ("base-replaced", &format!("{OWN}/replacing.sysext.raw")),
            ("confext-read-only", &format!("{OWN}/settings.confext.raw")),
            ("directory-masked", &format!("{OWN}/masking.sysext.raw")),
            ("extension-conflict", &format!("{OWN}/below.sysext.raw")),
            ("library-missing", &format!("{OWN}/needy.sysext.raw")),
            ("wants-too-late", &format!("{OWN}/late.sysext.raw")),
        ])
    );
    let report = scene.boot();
    assert_eq!(
        merged(&report),
        [
            "below",
            "late",
            "masking",
            "needy",
            "probe",
            "replacing",
            "zabove"
        ]
    );
    for (result, expected) in [
        ("both", "two\n"),
        ("replaced", "of the extension\n"),
        ("masked", "gone\n"),
        ("etc", "refused\n"),
        ("late", "inactive\n"),
        ("needy", "127\n"),
    ] {
        assert_eq!(
            report.fact(&format!("result/{result}")),
            expected,
            "{result}"
        );
    }
}
