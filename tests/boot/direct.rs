//! Direct kernel boot: no stub, no boot loader; what `ukikit esp export --cpio` wrote lies behind the UKI's initrd.

use std::fs;

use ukikit_esp::Uki;

use super::{CREDENTIALS, SECRET, Scene, lab, succeed, ukikit};

/// The same companions as beside the UKI have the same effect, and a trusted credential arrives.
#[test]
fn lab_exported_companions_boot_directly() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    scene.build("feature", "tree", &[]);
    for (name, content) in CREDENTIALS {
        fs::write(scene.path(name), content).unwrap();
        scene.encrypt(name);
        scene.place(&[&format!("{name}.cred")]);
    }
    scene.place(&["feature.sysext.raw"]);
    let exported = scene.path("companions.cpio");
    let mut export = ukikit();
    export.args([
        "esp",
        "export",
        "--cpio",
        "--uki=EFI/Linux/vendor.efi",
        "--esp",
    ]);
    export.arg(scene.esp()).arg(&exported);
    let trusted = "[Unit]\nDefaultDependencies=no\nBefore=lab-report.service\n[Service]\nType=oneshot\n\
                   ExecStart=sh -c 'mkdir -p /run/lab/results; echo it ran >/run/lab/results/trusted'\n";
    fs::write(scene.path("unit"), trusted).unwrap();
    fs::write(scene.path("dropin"), "[Unit]\nWants=trusted.service\n").unwrap();
    for (name, file) in [
        ("systemd.extra-unit.trusted.service", "unit"),
        ("systemd.unit-dropin.lab-report.service", "dropin"),
    ] {
        export.arg(format!(
            "--load-credential={name}:{}",
            scene.path(file).display()
        ));
    }
    succeed("esp export", export.output().unwrap());

    let file = fs::read(scene.esp().join("EFI/Linux/vendor.efi")).unwrap();
    let uki = Uki::parse(&file).unwrap();
    let mut initrd = uki.initrd().unwrap().to_vec();
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend(fs::read(exported).unwrap());
    let mut machine = scene.machine();
    let direct = machine.direct.insert(scene.path("direct"));
    fs::create_dir(&*direct).unwrap();
    fs::write(direct.join("kernel"), uki.section(".linux").unwrap()).unwrap();
    fs::write(direct.join("initrd"), initrd).unwrap();
    fs::write(direct.join("cmdline"), uki.cmdline().unwrap()).unwrap();
    let report = machine.boot();

    let journal = report.fact("journal");
    assert_eq!(report.merged("/usr"), ["feature"], "journal:\n{journal}");
    assert_eq!(report.fact("result/feature"), "the service ran\n");
    assert_eq!(
        report.fact("credential/lab.secret").as_bytes(),
        SECRET,
        "journal:\n{journal}"
    );
    let mounts = report.fact("proc/mountinfo");
    assert!(mounts.contains(" /sysroot/from-fstab-extra "), "{mounts}");
    assert_eq!(
        report.fact("result/trusted"),
        "it ran\n",
        "journal:\n{journal}"
    );
}
