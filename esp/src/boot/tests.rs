//! Boots played against the recorded sets of `tests/vectors/stub`.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::pe::tests::pe_file;
use crate::{Bank, Esp, Hash};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/stub")
}

fn vector(name: &str) -> Value {
    let file = std::fs::read(vectors().join(name).join("vector.json")).unwrap();
    serde_json::from_slice(&file).unwrap()
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The value of a PCR after a boot.
fn pcr(boot: &Boot<'_>, pcr: u32, bank: Bank) -> Hash {
    let of_pcr = boot.measurements().iter().filter(|event| event.pcr == pcr);
    of_pcr.fold(bank.zero(), |value, event| {
        value.extended(bank, &bank.hash(&[boot.data(event)]))
    })
}

fn event(boot: &Boot<'_>, event: &Measurement<'_>) -> Value {
    let data = boot.data(event);
    let mut row = json!({
        "pcr": event.pcr,
        "type": "EV_IPL",
        "description": event.description,
        "size": data.len(),
        "sha256": Bank::Sha256.hash(&[data]),
    });
    if let Event::Tag(tag) = event.event {
        row["type"] = json!("EV_EVENT_TAG");
        row["tag"] = json!(format!("{tag:#x}"));
    }
    row
}

/// What the kernel unpacks: the last file of a name stays.
fn unpacked(boot: &Boot<'_>, files: &BootFiles) -> Value {
    let mut found = serde_json::Map::new();
    for archive in &boot.archives {
        for path in &archive.files {
            let file = files.iter().find(|file| file.path == *path).unwrap();
            let place = format!("/{}/{}", archive.kind.directory(), file.name());
            found.insert(place, json!(Bank::Sha256.hash(&[&file.content])));
        }
    }
    Value::Object(found)
}

/// The whole of what a real boot showed, for each recorded set.
#[test]
fn every_recorded_boot_comes_out_as_it_did() {
    let sets = [
        "basic",
        "names-and-padding",
        "global",
        "both-and-addons",
        "entry-extras",
        "entry-options",
    ];
    for name in sets {
        let vector = vector(name);
        let expected = &vector["expected"];
        let esp = Esp::at(&vectors().join(name).join("files")).unwrap();
        let uki: UkiPath = vector["uki"].as_str().unwrap().parse().unwrap();
        let files = esp.boot_files(&uki, &strings(&vector["extras"])).unwrap();
        let start = Start {
            profile: u32::try_from(vector["profile"].as_u64().unwrap()).unwrap(),
            options: vector["cmdline"].as_str().map(str::to_owned),
            secure_boot: false,
            db: Certificates::default(),
            uname: vector["uname"].as_str().map(str::to_owned),
        };
        let boot = Boot::new(None, &files, &start).unwrap();
        let events: Vec<Value> = boot
            .measurements()
            .iter()
            .map(|e| event(&boot, e))
            .collect();
        assert_eq!(json!(events), expected["events"], "{name}");
        for number in [12, 13] {
            assert_eq!(
                json!(pcr(&boot, number, Bank::Sha256)),
                expected[format!("pcr{number}")],
                "{name}: PCR {number}"
            );
        }
        assert_eq!(
            unpacked(&boot, &files),
            expected["files_in_initrd"],
            "{name}"
        );
    }
}

#[test]
fn entries_say_what_the_recorded_boots_were_started_with() {
    for (name, path) in [
        ("entry-extras", "loader/entries/tok-commit_1.conf"),
        ("entry-options", "/loader/entries/opt.conf"),
    ] {
        let vector = vector(name);
        let esp = Esp::at(&vectors().join(name).join("files")).unwrap();
        let entry = esp.loader_entry(path).unwrap();
        assert_eq!(json!(entry.profile), vector["profile"]);
        assert_eq!(json!(entry.options), vector["cmdline"]);
        assert_eq!(json!(entry.extras), vector["extras"]);
        let uki: UkiPath = vector["uki"].as_str().unwrap().parse().unwrap();
        assert!(uki.is_named_by(&entry.uki.unwrap()));
    }
}

#[test]
fn the_uki_is_measured_section_by_section() {
    let file = pe_file(&[
        (".linux", b"kernel"),
        (".sbat", b"sbat"),
        (".osrel", b"ID=vendor\n"),
        (".cmdline", b"quiet\n"),
        (".pcrsig", b"never measured"),
        (".profile", b"ID=main"),
        (".profile", b"ID=other"),
        (".cmdline", b"debug"),
    ]);
    let uki = Uki::parse(&file).unwrap();
    for (profile, cmdline, id) in [(0, "quiet\n", "ID=main"), (1, "debug", "ID=other")] {
        let start = Start {
            profile,
            ..Start::default()
        };
        let boot = Boot::new(Some(&uki), &BootFiles::default(), &start).unwrap();
        let of_11 = boot.measurements().iter().filter(|event| event.pcr == 11);
        let data: Vec<_> = of_11
            .map(|event| String::from_utf8_lossy(boot.data(event)))
            .collect();
        assert_eq!(
            data,
            [
                ".linux\0",
                "kernel",
                ".osrel\0",
                "ID=vendor\n",
                ".cmdline\0",
                cmdline,
                ".sbat\0",
                "sbat",
                ".profile\0",
                id
            ]
        );
        assert_eq!(boot.command_line.as_deref(), Some(cmdline.trim_end()));
    }
    let start = Start {
        profile: 2,
        ..Start::default()
    };
    let refused = Boot::new(Some(&uki), &BootFiles::default(), &start).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the UKI has no profile 2, only 2 counted from 0"
    );
}

#[test]
fn secure_boot_drops_a_passed_command_line_and_unsigned_addons() {
    let file = pe_file(&[(".linux", b"kernel"), (".cmdline", b"of the vendor")]);
    let bare = pe_file(&[(".linux", b"kernel")]);
    let addon = pe_file(&[(".cmdline", b"more")]);
    let mut files = BootFiles::default();
    files.put(&Target::Global, "a.addon.efi", addon).unwrap();
    for (uki, secure_boot, expected) in [
        (&file, false, "passed more"),
        (&file, true, "of the vendor"),
        (&bare, true, "passed"),
    ] {
        let uki = Uki::parse(uki).unwrap();
        let start = Start {
            options: Some("passed".into()),
            secure_boot,
            ..Start::default()
        };
        let boot = Boot::new(Some(&uki), &files, &start).unwrap();
        assert_eq!(boot.command_line.as_deref(), Some(expected));
        let verdict = boot.addons[0].verdict;
        assert_eq!(verdict == AddonVerdict::Unsigned, secure_boot);
    }
}

#[test]
fn files_are_put_where_the_stub_looks() {
    let one = Target::Uki("a.efi".parse().unwrap());
    let mut files = BootFiles::default();
    for (target, name) in [
        (&one, "a.cred"),
        (&Target::Global, "a.cred"),
        (&Target::Global, "b.confext.raw"),
        (&Target::Global, "c.addon.efi"),
        (&one, "A.cred"),
    ] {
        files.put(target, name, Vec::new()).unwrap();
    }
    let paths = |files: &BootFiles| {
        files
            .iter()
            .map(|file| file.path.clone())
            .collect::<Vec<_>>()
    };
    let global = [
        "loader/credentials/a.cred",
        "loader/extensions/b.confext.raw",
        "loader/addons/c.addon.efi",
    ];
    assert_eq!(paths(&files)[1..], global);
    assert_eq!(paths(&files)[0], "a.efi.extra.d/A.cred");
    files.remove(&one, "a.CRED");
    assert_eq!(paths(&files), global);
    assert_eq!(
        files
            .put(&one, "x.txt", Vec::new())
            .unwrap_err()
            .to_string(),
        "`x.txt` cannot be a companion: it ends in none of .cred, .sysext.raw, .raw, .confext.raw and .addon.efi"
    );
}

proptest! {
    /// Whatever lies beside the UKI: each archive is whole, and each file the stub takes is in one.
    #[test]
    fn any_companions(names in prop::collection::vec("[a-c.]{1,3}\\.(cred|raw|confext\\.raw)", 0..6), size in 0_usize..9) {
        let own: Vec<File> = names.iter().map(|name| File::new(name.clone(), vec![7; size])).collect();
        let files = BootFiles { own, ..BootFiles::default() };
        let boot = Boot::new(None, &files, &Start::default()).unwrap();
        let packed: usize = boot.archives.iter().map(|archive| archive.files.len()).sum();
        let taken = names.iter().filter(|name| Kind::taken_by_stub(OsStr::new(name)).is_ok());
        prop_assert_eq!(packed, taken.count());
        for archive in &boot.archives {
            prop_assert!(archive.as_bytes().ends_with(b"TRAILER!!!\0\0\0\0"));
            prop_assert_eq!(archive.as_bytes().len() % 4, 0);
        }
    }
}
