//! Images made by systemd-repart 257 and 262, and damaged ones: each good one verifies, each bad one is
//! refused for its own reason.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops where it fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use ukikit_sysext::{
    Architecture, Certificate, Certificates, Check, Error, Finding, Image, Release, Requirements,
    RootHash,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Positive {
    key: String,
    root_hash: String,
    file: String,
}

#[derive(Deserialize)]
struct Negative {
    /// The good image that is damaged.
    base: Option<String>,
    /// Where and with which bytes, in hex.
    #[serde(default)]
    edits: Vec<(usize, String)>,
    /// A bad image of its own.
    file: Option<String>,
    size: usize,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    /// Which of the real tools refuse it.
    oracle_fails: Vec<String>,
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ddi")
}

fn unpacked(file: &str) -> Vec<u8> {
    let packed = fs::File::open(vectors().join(file)).unwrap();
    let mut image = Vec::new();
    liblzma::read::XzDecoder::new(packed)
        .read_to_end(&mut image)
        .unwrap();
    image
}

fn manifest<T: for<'a> Deserialize<'a>>(file: &str) -> BTreeMap<String, T> {
    serde_json::from_slice(&fs::read(vectors().join(file)).unwrap()).unwrap()
}

fn trust(key: &str) -> Certificates {
    let pem = fs::read(vectors().join(format!("keys/{key}.crt"))).unwrap();
    Certificates::new([Certificate::from_pem(&pem).unwrap()])
}

/// The machine on which the verdicts of the manifests were found.
fn requirements() -> Requirements {
    let mut requirements = Requirements::new();
    requirements.base = Some(Release::parse(b"ID=debian\nVERSION_ID=12\n").unwrap());
    requirements.file_name = Some("tiny-a.raw".into());
    requirements.architecture = Some(Architecture::X86_64);
    requirements
}

fn verify(
    image: Vec<u8>,
    key: &str,
    requirements: &Requirements,
) -> Result<RootHash, Vec<Finding>> {
    let verdict =
        Image::open(Cursor::new(image)).and_then(|image| image.verify(&trust(key), requirements));
    verdict.map_err(|error| match error {
        Error::Refused { findings } => findings,
        other => panic!("{other}"),
    })
}

fn damaged(case: &Negative) -> Vec<u8> {
    let mut image = match (&case.base, &case.file) {
        (Some(base), _) => unpacked(&format!("{base}.xz")),
        (None, Some(file)) => unpacked(file),
        (None, None) => panic!("neither base nor file"),
    };
    image.truncate(case.size);
    for (at, bytes) in &case.edits {
        let bytes = hex::decode(bytes).unwrap();
        image[*at..at + bytes.len()].copy_from_slice(&bytes);
    }
    image
}

#[test]
fn every_good_image_verifies() {
    for (name, case) in manifest::<Positive>("positive.json") {
        let root_hash = verify(unpacked(&case.file), &case.key, &requirements());
        assert_eq!(root_hash.unwrap().to_string(), case.root_hash, "{name}");
    }
}

/// For each bad image, why it is refused: the first reason.
const REASONS: [(&str, &str); 46] = [
    (
        "content-no-id",
        "usr/lib/extension-release.d/extension-release.tiny-a: has no ID=",
    ),
    (
        "content-no-release",
        "usr/lib/extension-release.d/extension-release.tiny-a: does not exist",
    ),
    (
        "content-os-release",
        "usr/lib/os-release: makes this an operating system, not an extension",
    ),
    (
        "content-outside-usr",
        "etc: is not merged from a sysext, only usr and opt",
    ),
    (
        "content-scope-default",
        "usr/lib/extension-release.d/extension-release.tiny-a: has no SYSEXT_SCOPE=, which means system portable, without initrd",
    ),
    (
        "content-scope-portable",
        "usr/lib/extension-release.d/extension-release.tiny-a: SYSEXT_SCOPE=portable, without initrd",
    ),
    (
        "content-wrong-arch",
        "usr/lib/extension-release.d/extension-release.tiny-a: ARCHITECTURE=riscv64, not x86-64",
    ),
    (
        "content-wrong-id",
        "usr/lib/extension-release.d/extension-release.tiny-a: ID=no-such-distribution, the base has ID=debian",
    ),
    (
        "content-wrong-name",
        "usr/lib/extension-release.d/extension-release.tiny-a: does not exist, only `usr/lib/extension-release.d/extension-release.other` does",
    ),
    (
        "data-bit-flipped",
        "data block 216: does not match its hash",
    ),
    (
        "data-superblock-flipped",
        "data block 0: does not match its hash",
    ),
    (
        "flag-no-auto",
        "partition 1: has attribute bit 63 set: systemd passes it over",
    ),
    (
        "gpt-both-crc",
        "primary GPT header: checksum is 0xda1f4142, the header says 0xda1f4143",
    ),
    (
        "gpt-entries-crc",
        "primary GPT entries: have checksum 0xe17dccd7, the header says 0x1d39cdc9",
    ),
    (
        "gpt-primary-crc",
        "primary GPT header: checksum is 0xda1f4142, the header says 0xda1f4143",
    ),
    ("hash-leaf-flipped", "hash block 2: does not match its hash"),
    (
        "hash-top-flipped",
        "hash block 1: does not match the root hash and the salt",
    ),
    (
        "json-broken",
        "signature partition: JSON: EOF while parsing an object at line 1 column 1833",
    ),
    (
        "json-no-signature",
        "signature partition: JSON: missing field `signature` at line 1 column 79",
    ),
    (
        "json-roothash-changed",
        "hash block 1: does not match the root hash and the salt",
    ),
    (
        "json-roothash-short",
        "signature partition: root hash is not 64 lower-case hex digits",
    ),
    (
        "json-trailing-data",
        "signature partition: at byte 16383: not zero behind the end of the text",
    ),
    (
        "json-wrong-fingerprint",
        "signature partition: certificateFingerprint dd8b8a8b315a9b4026ebb3681a2d58c3c9c288936534a99a16b50a9a83ffc525 is of another certificate",
    ),
    ("mbr-no-signature", "protective MBR: at byte 510: not 55 AA"),
    (
        "no-signature-partition",
        "image: has no signature partition",
    ),
    ("no-verity-partition", "image: has no verity partition"),
    (
        "signature-binary-hash",
        "signature: is not over root hash 0cfc167ea7334b3705f00a8d14ccb2200a88002d4995111d8881c78834ba2327 by the key of `CN=ddi test vector a rsa2048`",
    ),
    (
        "signature-bit-flipped",
        "signature: is not over root hash 0cfc167ea7334b3705f00a8d14ccb2200a88002d4995111d8881c78834ba2327 by the key of `CN=ddi test vector a rsa2048`",
    ),
    (
        "signature-embedded-content",
        "signature: has its content inside; the kernel takes only detached signatures",
    ),
    (
        "signature-keyid",
        "signature: names its signer by subject key identifier; systemd cannot read it",
    ),
    (
        "signature-newline",
        "signature: is not over root hash 0cfc167ea7334b3705f00a8d14ccb2200a88002d4995111d8881c78834ba2327 by the key of `CN=ddi test vector a rsa2048`",
    ),
    (
        "signature-other-key",
        "signature: is by issuer `CN=ddi test vector a other` serial 38:E9:88:94:33:4A:CC:31:0F:E7:34:6C:29:B8:D0:5D:72:3C:D8:54, which is no trusted certificate",
    ),
    (
        "signature-pem",
        "signature: is PEM text; the kernel and systemd take only DER",
    ),
    (
        "signature-pss",
        "signature: is made with RSA-PSS; neither the kernel nor systemd takes it",
    ),
    (
        "signature-sha1",
        "signature: is made with SHA-1, which is broken",
    ),
    (
        "signature-uppercase",
        "signature: is not over root hash 0cfc167ea7334b3705f00a8d14ccb2200a88002d4995111d8881c78834ba2327 by the key of `CN=ddi test vector a rsa2048`",
    ),
    (
        "signature-with-attributes",
        "signature: has signed attributes; the kernel refuses them",
    ),
    (
        "truncated-backup-gpt",
        "backup GPT header: sector 3888 is past the end of the file (1974272 bytes)",
    ),
    (
        "truncated-data",
        "backup GPT header: sector 3888 is past the end of the file (466944 bytes)",
    ),
    (
        "truncated-signature",
        "backup GPT header: sector 3888 is past the end of the file (1958488 bytes)",
    ),
    (
        "type-foreign-arch",
        "image: has partitions for arm64, not x86-64",
    ),
    (
        "uuid-data-wrong",
        "data partition: has UUID 0cfc167e-a732-4b37-05f0-0a8d14ccb220, not 0cfc167e-a733-4b37-05f0-0a8d14ccb220, the first half of the root hash",
    ),
    (
        "uuid-verity-wrong",
        "verity partition: has UUID 0a88002d-4994-111d-8881-c78834ba2327, not 0a88002d-4995-111d-8881-c78834ba2327, the last half of the root hash",
    ),
    (
        "verity-blocks-changed",
        "hash block 3: is not zero behind its last hash",
    ),
    (
        "verity-magic-broken",
        "verity superblock: at byte 0: does not start with `verity`",
    ),
    (
        "verity-salt-changed",
        "hash block 1: does not match the root hash and the salt",
    ),
];

#[test]
fn every_bad_image_is_refused_for_its_own_reason() {
    let cases = manifest::<Negative>("negative.json");
    let names: Vec<&str> = cases.keys().map(String::as_str).collect();
    assert_eq!(names, REASONS.map(|(name, _)| name));
    for (name, reason) in REASONS {
        let findings = verify(damaged(&cases[name]), "rsa2048", &requirements()).unwrap_err();
        assert_eq!(findings[0].to_string(), reason, "{name}");
        for tool in &cases[name].expected.oracle_fails {
            let ours = checks_of(tool);
            assert!(
                findings.iter().any(|finding| ours.contains(&finding.check)),
                "{name}: {tool}"
            );
        }
    }
}

/// Which of our checks finds what makes that tool fail.
fn checks_of(tool: &str) -> &'static [Check] {
    match tool {
        "sfdisk --verify" | "sfdisk --json" => &[Check::PartitionTable],
        "table, UUIDs, signature JSON" => &[
            Check::PartitionTable,
            Check::Partitions,
            Check::SignaturePartition,
            Check::PartitionUuids,
            Check::Fingerprint,
        ],
        "veritysetup dump" | "veritysetup verify" => &[Check::HashTree],
        "signature (as systemd verifies)" | "signature (what dm-verity needs)" => {
            &[Check::Signature]
        }
        "file system type" | "mount and read every file" => &[Check::FileSystem],
        "content rules" => &[Check::Content],
        dissect if dissect.starts_with("systemd-dissect") => &[
            Check::PartitionTable,
            Check::Partitions,
            Check::SignaturePartition,
            Check::FileSystem,
            Check::Content,
        ],
        other => panic!("unknown tool {other}"),
    }
}

#[test]
fn a_good_image_is_refused_where_it_does_not_belong() {
    let image = || unpacked("erofs/tiny-a.raw.xz");
    let first = |key: &str, requirements: &Requirements| {
        verify(image(), key, requirements).unwrap_err()[0].to_string()
    };
    assert_eq!(
        first("other", &requirements()),
        "signature: is by issuer `CN=ddi test vector a rsa2048` serial 7A:58:B1:4E:B6:15:ED:FE:24:D9:A2:DF:50:15:B5:1A:64:36:20:F3, which is no trusted certificate"
    );

    let mut renamed = requirements();
    renamed.file_name = Some("tiny-b.raw".into());
    assert_eq!(
        first("rsa2048", &renamed),
        "usr/lib/extension-release.d/extension-release.tiny-b: does not exist, \
         only `usr/lib/extension-release.d/extension-release.tiny-a` does"
    );

    let mut arm = requirements();
    arm.architecture = Some(Architecture::Arm64);
    assert_eq!(
        first("rsa2048", &arm),
        "image: has partitions for x86-64, not arm64"
    );
}
