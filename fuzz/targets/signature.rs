//! Any bytes as the PKCS#7 signature of an otherwise sound image: no panic, and none but the real one verifies.
#![no_main]

mod common;

use std::io::Cursor;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use ukikit_sysext::{
    Architecture, Certificate, Certificates, Entry, Image, KeyPair, Plan, PrivateKey, Requirements,
    Tree,
};

fuzz_target!(|der: &[u8]| {
    let image = &*BASE;
    let json = format!(
        "{}{}\"}}",
        image.json_before_signature,
        STANDARD.encode(der)
    );
    if json.len() > image.room {
        return;
    }
    let mut bytes = image.bytes.clone();
    let partition = &mut bytes[image.at..image.at + image.room];
    partition.fill(0);
    partition[..json.len()].copy_from_slice(json.as_bytes());
    let verdict = Image::open(Cursor::new(bytes))
        .unwrap()
        .verify(&image.trusted, &Requirements::new());
    // Certificates and parameters may differ, but the bytes that RSA made must be in there.
    if verdict.is_ok() {
        assert!(der.windows(256).any(|window| window == image.rsa));
    }
});

struct Base {
    bytes: Vec<u8>,
    at: usize,
    room: usize,
    json_before_signature: String,
    rsa: Vec<u8>,
    trusted: Certificates,
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let certificate = Certificate::from_pem(common::CERTIFICATE).unwrap();
    let key = PrivateKey::from_pem(common::PRIVATE_KEY, None).unwrap();
    let signer = KeyPair::new(key, certificate.clone()).unwrap();
    let mut tree = Tree::new();
    tree.insert("usr/lib/feature", Entry::file("a feature\n"))
        .unwrap();
    let plan = Plan::new("feature".parse().unwrap(), Architecture::X86_64, tree);
    let mut out = Cursor::new(Vec::new());
    plan.build(&signer, &mut out).unwrap();
    Base::of(out.into_inner(), Certificates::new([certificate]))
});

impl Base {
    fn of(bytes: Vec<u8>, trusted: Certificates) -> Self {
        const START: &[u8] = b"{\"rootHash\"";
        const MEMBER: &str = "\"signature\":\"";
        let at = bytes
            .windows(START.len())
            .position(|window| window == START)
            .unwrap();
        let text: Vec<u8> = bytes[at..]
            .iter()
            .copied()
            .take_while(|&byte| byte != 0)
            .collect();
        let text = String::from_utf8(text).unwrap();
        let (before, rest) = text.split_once(MEMBER).unwrap();
        let der = STANDARD.decode(rest.trim_end_matches("\"}")).unwrap();
        Self {
            at,
            room: 4096,
            json_before_signature: format!("{before}{MEMBER}"),
            // The signature proper stands last in the structure.
            rsa: der[der.len() - 256..].to_vec(),
            bytes,
            trusted,
        }
    }
}
