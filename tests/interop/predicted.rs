//! Predictions through systemd's own programs: systemd-pcrlock knows our components again, systemd-measure digests the same
//! policies.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use ukikit_esp::SignablePe;

use crate::support::swtpm::Swtpm;
use crate::support::systemd::{Room, Systemd};
use crate::support::{event_log, pe, run, succeed, text, ukikit};

const UKI: &str = "EFI/Linux/vendor.efi";
const SECTIONS: [(&str, &[u8]); 4] = [
    ("linux", b"kernel"),
    ("osrel", b"ID=vendor\n"),
    ("cmdline", b"quiet"),
    ("initrd", b"070701"),
];

/// A UKI with a credential beside it, in a room of systemd's.
fn write_esp(room: &Room) {
    let named = SECTIONS.map(|(name, content)| (format!(".{name}"), content));
    let sections: Vec<(&str, &[u8])> = named
        .iter()
        .map(|(name, content)| (name.as_str(), *content))
        .collect();
    fs::create_dir_all(room.path("esp/EFI/Linux/vendor.efi.extra.d")).unwrap();
    room.write(&format!("esp/{UKI}"), &pe::addon(&sections));
    room.write("esp/EFI/Linux/vendor.efi.extra.d/one.cred", b"one");
}

fn predict(room: &Room, arguments: &[&str]) -> Vec<u8> {
    let mut predict = ukikit();
    predict.current_dir(room.directory());
    predict.args(["predict", "--esp=esp", "--uki", UKI]);
    let output = predict.args(arguments).output().unwrap();
    succeed("predict", output)
}

fn prediction(room: &Room, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json=short", "--bank=sha256"]].concat();
    serde_json::from_slice(&predict(room, &arguments)).unwrap()
}

/// The logs of a boot that was measured as predicted, up to the separator; and what a TPM is extended with to show them.
fn write_logs(room: &Room, prediction: &Value) {
    // systemd-pcrlock knows a UKI again only with the hash that the firmware measured of the whole file.
    let whole = SignablePe::parse(&fs::read(room.path(&format!("esp/{UKI}"))).unwrap()).unwrap();
    let whole = hex::encode(whole.digest(None).unwrap().as_bytes());
    let of_stub = prediction["events"].as_array().unwrap().iter();
    let of_stub = of_stub.map(|event| {
        let pcr = u32::try_from(event["pcr"].as_u64().unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            pcr,
            text(&event["digests"]["sha256"]),
            text(&event["description"]),
        )
    });
    let events: Vec<(u32, String, String)> = [(4, whole, UKI.to_owned())]
        .into_iter()
        .chain(of_stub)
        .collect();
    let log = event_log::write(events.iter().map(|(pcr, digest, description)| {
        (*pcr, description.as_str(), hex::decode(digest).unwrap())
    }));
    let lines = events
        .iter()
        .map(|(pcr, digest, _)| format!("{pcr}:sha256={digest}\n"));
    let mut extensions: String = lines.collect();
    let mut userspace = String::new();
    let separated = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14].map(|pcr| (pcr, "os-separator"));
    for (pcr, word) in [(11, "enter-initrd")].into_iter().chain(separated) {
        let digest = hex::encode(Sha256::digest(word));
        extensions += &format!("{pcr}:sha256={digest}\n");
        let digests = json!([{"hashAlg": "sha256", "digest": digest}]);
        let content = json!({"string": word, "eventType": "phase"});
        let record =
            json!({"pcr": pcr, "digests": digests, "content_type": "systemd", "content": content});
        userspace += &format!("\u{1e}{record}\n");
    }
    room.write("firmware.log", &log);
    room.write("userspace.log", userspace.as_bytes());
    room.write("extensions", extensions.as_bytes());
}

/// A TPM with a SHA-256 bank in which nothing was measured.
fn empty_tpm(place: &TempDir) -> Swtpm {
    let state = place.path().display().to_string();
    run(
        "swtpm_setup",
        ["--tpm2", "--tpmstate", &state, "--pcr-banks", "sha256"],
    );
    Swtpm::start_on(place.path())
}

fn pcrlock(room: &Room, tpm: &Swtpm, arguments: &[&str]) -> Vec<u8> {
    let mut pcrlock = room.command("/usr/lib/systemd/systemd-pcrlock");
    pcrlock
        .env("SYSTEMD_TPM2_DEVICE", tpm.device())
        .env("SYSTEMD_MEASURE_LOG_FIRMWARE", "/io/firmware.log")
        .env("SYSTEMD_MEASURE_LOG_USERSPACE", "/io/userspace.log")
        .args([
            "--components=/io/components",
            "--components=/usr/lib/pcrlock.d",
        ]);
    let output = pcrlock.args(arguments).output().unwrap();
    succeed("systemd-pcrlock", output)
}

/// The values of one PCR at these moments.
fn values(predictions: &[&Value], moments: &[&str], pcr: &str) -> BTreeSet<String> {
    let of = |prediction: &&Value| {
        let points = &prediction["points"];
        let values = moments.iter().map(|moment| &points[moment]["sha256"][pcr]);
        values
            .map(|value| value.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    predictions.iter().flat_map(of).collect()
}

/// Its policy covers the boot that is and the one with the planned companion; so secrets under it survive the placing.
#[test]
fn systemd_pcrlock_covers_what_is_and_what_is_planned() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    write_esp(&room);
    room.write("feature.sysext.raw", b"an image");
    let place = "--place=feature.sysext.raw";
    let (now, then) = (prediction(&room, &[]), prediction(&room, &[place]));
    write_logs(&room, &now);
    let state = TempDir::new().unwrap();
    let tpm = empty_tpm(&state);
    let mut extend = room.command("sh");
    extend.env("TPM2TOOLS_TCTI", tpm.device());
    let output = extend
        .args(["-c", "xargs tpm2_pcrextend <extensions"])
        .output();
    succeed("tpm2_pcrextend", output.unwrap());

    let lock_uki = [
        "lock-uki",
        "esp/EFI/Linux/vendor.efi",
        "--pcrlock=components/650-uki.pcrlock",
    ];
    fs::create_dir(room.path("components")).unwrap();
    pcrlock(&room, &tpm, &lock_uki);
    predict(&room, &["--format=pcrlock", "--output=components", place]);

    let arguments = [
        "predict",
        "--pcr=11",
        "--pcr=12",
        "--pcr=13",
        "--json=short",
    ];
    let said: Value = serde_json::from_slice(&pcrlock(&room, &tpm, &arguments)).unwrap();
    let theirs = |number: u64| -> BTreeSet<String> {
        let rows = said["sha256"].as_array().unwrap().iter();
        let row = rows.filter(|row| row["pcr"] == number).collect::<Vec<_>>();
        let [row] = row[..] else {
            panic!("PCR {number} is not covered: {said}")
        };
        let values = row["values"].as_array().unwrap().iter();
        values
            .map(|value| value.as_str().unwrap().to_owned())
            .collect()
    };
    let both = [&now, &then];
    assert_eq!(theirs(12), values(&both, &["os-separator"], "12"));
    assert_eq!(theirs(12).len(), 1);
    assert_eq!(theirs(13), values(&both, &["os-separator"], "13"));
    assert_eq!(theirs(13).len(), 2);
    let phases = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
    assert_eq!(theirs(11), values(&both, &phases, "11"));
}

/// What systemd-measure says of the same sections: values, and digests for a signer elsewhere.
#[test]
fn systemd_measure_and_we_say_the_same() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    write_esp(&room);
    let mut sections = Vec::new();
    for (name, content) in SECTIONS {
        room.write(name, content);
        sections.push(format!("--{name}={name}"));
    }
    let measure = |verb: &str, more: &[&str]| -> Value {
        let mut arguments = vec![verb.to_owned(), "--json=short".to_owned()];
        arguments.extend(sections.iter().cloned());
        arguments.extend(more.iter().map(|&one| one.to_owned()));
        let output = room.run("/usr/lib/systemd/systemd-measure", &arguments);
        let said = succeed("systemd-measure", output);
        serde_json::from_slice(&said).unwrap_or_else(|error| panic!("{error}: {}", text(&said)))
    };

    let ours: Value = serde_json::from_slice(&predict(&room, &["--json=short"])).unwrap();
    let moments = [
        "after-stub",
        "enter-initrd",
        "leave-initrd",
        "sysinit",
        "ready",
    ];
    let mut phases = vec!["--phase=:".to_owned()];
    for moment in &moments[1..] {
        let last = phases.last().unwrap().trim_end_matches(':').to_owned();
        let joint = if phases.len() == 1 { "" } else { ":" };
        phases.push(format!("{last}{joint}{moment}"));
    }
    let phases: Vec<&str> = phases.iter().map(String::as_str).collect();
    let calculated = measure("calculate", &phases);
    for bank in ["sha1", "sha256", "sha384", "sha512"] {
        let rows = calculated[bank].as_array().unwrap();
        let theirs: Vec<&Value> = rows.iter().map(|row| &row["hash"]).collect();
        let ours = moments.map(|moment| &ours["points"][moment][bank]["11"]);
        assert_eq!(theirs, ours, "{bank}");
    }

    let key = room.path("key").display().to_string();
    run("openssl", ["genrsa", "-out", &key, "2048"]);
    run(
        "openssl",
        [
            "rsa",
            "-in",
            &key,
            "-pubout",
            "-out",
            &room.path("pub").display().to_string(),
        ],
    );
    let digests = measure(
        "policy-digest",
        &[&phases[..], &["--public-key=pub"]].concat(),
    );
    let arguments = [&phases[..], &["--format=policy", "--public-key=pub"]].concat();
    let ours: Value = serde_json::from_slice(&predict(&room, &arguments)).unwrap();
    assert_eq!(ours, digests);
}
