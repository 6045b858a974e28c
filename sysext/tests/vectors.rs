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
    Architecture, Certificate, Certificates, Check, Entry, Error, Finding, Image, KeyPair, Plan,
    PrivateKey, Release, Requirements, RootHash, Tree,
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
    /// Why it is refused: the first reason.
    reason: String,
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

#[test]
fn every_bad_image_is_refused_for_its_own_reason() {
    for (name, case) in manifest::<Negative>("negative.json") {
        let findings = verify(damaged(&case), "rsa2048", &requirements()).unwrap_err();
        assert_eq!(findings[0].to_string(), case.reason, "{name}");
        for tool in &case.expected.oracle_fails {
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

/// Of an image as small as they get, whatever byte changes is noticed, but for those no reader looks at. One byte of every
/// eight is tried, in turn each of the eight.
#[test]
fn no_changed_byte_goes_unnoticed() {
    let image = smallest();
    let mut requirements = requirements();
    requirements.file_name = Some("demo.raw".into());
    assert!(verify(image.clone(), "p256", &requirements).is_ok());
    let mut unnoticed = Vec::new();
    for at in (0..image.len() / 8).map(|word| word * 8 + word % 8) {
        let mut changed = image.clone();
        changed[at] ^= 1;
        if verify(changed, "p256", &requirements).is_ok() {
            unnoticed.push(at);
        }
    }
    let read = |at: &usize| !UNREAD.iter().any(|range| range.contains(at));
    assert_eq!(
        unnoticed.into_iter().filter(read).collect::<Vec<_>>(),
        [0; 0]
    );
}

/// What is not read of it: boot code, CHS addresses and other partitions of the MBR; what pads the sectors of both GPT headers and
/// the table; UUID and padding of the hash tree's superblock; the certificate in the signature, since the trusted one counts, and the kind of the hash's
/// empty parameters.
const UNREAD: [std::ops::Range<usize>; 10] = [
    0..450,
    451..458,
    462..510,
    604..1024,
    17_408..20_480,
    24_592..24_608,
    24_658..28_672,
    28_750..29_486,
    29_595..29_596,
    49_244..49_664,
];

fn smallest() -> Vec<u8> {
    let pem = |name: &str| fs::read(vectors().join("keys").join(name)).unwrap();
    let key = PrivateKey::from_pem(&pem("p256.key"), None).unwrap();
    let certificate = Certificate::from_pem(&pem("p256.crt")).unwrap();
    let mut tree = Tree::new();
    tree.insert("usr/lib/demo.conf", Entry::file("hello\n"))
        .unwrap();
    let plan = Plan::new("demo".parse().unwrap(), Architecture::X86_64, tree);
    let mut image = Cursor::new(Vec::new());
    let signer = KeyPair::new(key, certificate).unwrap();
    plan.build(&signer, &mut image).unwrap();
    image.into_inner()
}
