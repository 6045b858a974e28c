//! `ukikit cred reencrypt`: exact output, and what stays as it was.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::bench::Bench;
use support::swtpm::Swtpm;
use support::{identities, vector};

/// A credential that nobody here can open changes its encoding all the same, there and back.
#[test]
fn the_encoding_changes_without_a_key() {
    let bench = Bench::new();
    let text = fs::read(vector("creds/cred/offline-srk-pk-pcr7.cred")).unwrap();
    bench.write("a.cred", &text);
    let (_, said) = bench.run("cred reencrypt --encoding=binary a.cred");
    assert_eq!(
        said,
        "`a.cred`: tpm2-with-public-key, pinned, bound to PCR 7 and signed PCR 11 (sha256), binary, for systemd 262 and later\n"
    );
    let compact: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\n').collect();
    assert_eq!(bench.read("a.cred"), STANDARD.decode(compact).unwrap());
    bench.run("cred reencrypt --encoding=base64 a.cred --output=b.cred");
    assert_eq!(bench.read("b.cred"), text);
}

#[test]
fn another_key_and_life_for_the_same_secret() {
    let bench = Bench::new();
    bench.write("in", b"hello");
    bench.run("cred encrypt --with-key=host --root=. --timestamp=@100 --not-after=@200 --name=demo in a.cred");
    bench.run("cred encrypt --with-key=host --root=. --name=other in b.cred");
    bench.refuses(
        "cred reencrypt --from-root=. --with-key=null a.cred b.cred",
        "error: cannot encrypt `a.cred` anew: cannot open `a.cred`: the credential expired at @200\n\n\
         hint: it was good until 1970-01-01 00:03:20 UTC\n",
    );
    let (_, said) = bench
        .run("cred reencrypt --from-root=. --with-key=null --not-after=@4000000000 a.cred b.cred");
    assert_eq!(
        said,
        "`a.cred`: null, base64, for systemd 251 and later\n`b.cred`: null, base64, for systemd 251 and later\n"
    );
    let (opened, _) =
        bench.run("cred decrypt --allow-null --name=demo --timestamp=@4000000000 a.cred");
    assert_eq!(opened, "hello");
    bench.refuses(
        "cred decrypt --allow-null --name=demo --timestamp=@4000000001 a.cred",
        "error: cannot open `a.cred`: the credential expired at @4000000000\n\nhint: it was good until 2096-10-02 07:06:40 UTC\n",
    );
}

#[test]
fn a_new_host_secret_and_user() {
    let bench = Bench::new();
    bench.write("in", b"hello");
    fs::create_dir_all(bench.path("new/etc")).unwrap();
    bench.write("new/etc/machine-id", b"fedcba98765443210fedcba987654321\n");
    bench.write("new/etc/passwd", b"eve:x:1002:1002::/:/bin/sh\n");
    bench.run("cred encrypt --with-key=host --root=. --uid=bob in a.cred");
    bench.run("cred reencrypt --from-root=. --from-uid=bob --root=new --uid=eve a.cred");
    let (opened, _) = bench.run("cred decrypt --root=new --uid=eve a.cred");
    assert_eq!(opened, "hello");
}

#[test]
fn all_or_none_are_written() {
    let bench = Bench::new();
    bench.write("in", b"hello");
    bench.run("cred encrypt --with-key=null in a.cred");
    bench.run("cred encrypt --with-key=host --root=. in b.cred");
    let before = bench.read("a.cred");
    fs::create_dir_all(bench.path("none/etc")).unwrap();
    bench.write("none/etc/machine-id", b"fedcba98765443210fedcba987654321\n");
    for (arguments, error) in [
        (
            "--from-root=none --allow-null --not-after=+1d a.cred b.cred",
            "cannot encrypt `b.cred` anew: cannot read `none/var/lib/systemd/credential.secret`: No such file or directory\n",
        ),
        (
            "--not-after=+1d a.cred",
            "cannot encrypt `a.cred` anew: cannot open `a.cred`: the credential is encrypted with the null key, which is refused here: it protects nothing\n\n\
             hint: --allow-null takes it all the same\n",
        ),
        (
            "--encoding=binary --output=c.cred a.cred b.cred",
            "--output= takes one credential, and there are 2\n",
        ),
    ] {
        bench.refuses(
            &format!("cred reencrypt {arguments}"),
            &format!("error: {error}"),
        );
        assert_eq!(bench.read("a.cred"), before);
        assert!(!bench.path("c.cred").exists());
    }
    bench.run("cred reencrypt --dry-run --encoding=binary a.cred");
    assert_eq!(bench.read("a.cred"), before);
}

/// From one TPM to another that is not there, with the signed policy taken over.
#[test]
fn to_the_tpm_of_another_host() {
    if !Path::new("/usr/bin/swtpm").exists() {
        return support::skip("no swtpm");
    }
    let bench = Bench::new();
    bench.write("in", b"hello");
    let (old, new) = (Swtpm::start("a"), Swtpm::start("b"));
    let (from, to) = (old.device(), new.device());
    bench.run(&format!(
        "tpm identity --root=. --tpm2-device={to} new.json"
    ));
    bench.run(&format!(
        "cred encrypt --with-key=tpm2 --tpm2-pcrs=7 --tpm2-device={from} --name=demo in a.cred"
    ));
    bench.refuses(
        &format!("cred reencrypt --from-tpm2-device={from} --for=new.json a.cred"),
        "error: cannot encrypt `a.cred` anew: it is bound to the values of PCR 7, which cannot be taken over\n\n\
         hint: give --tpm2-pcrs= with what to bind to, or with nothing\n",
    );
    let (_, said) = bench.run(&format!(
        "cred reencrypt --from-tpm2-device={from} --for=new.json --tpm2-pcrs= --pinned=yes a.cred"
    ));
    assert_eq!(
        said,
        "`a.cred`: tpm2, pinned, bound to no PCR, base64, for systemd 262 and later\n"
    );
    let (opened, _) = bench.run(&format!(
        "cred decrypt --tpm2-device={to} --name=demo a.cred"
    ));
    assert_eq!(opened, "hello");
    bench.refuses(
        &format!("cred decrypt --tpm2-device={from} --name=demo a.cred"),
        "error: cannot open `a.cred`: the credential was sealed to another TPM\n",
    );

    let (key, signature) = (
        vector("creds/keys/pk1.pem"),
        vector("creds/keys/pk1-signature.json"),
    );
    let (key, signature) = (key.display(), signature.display());
    old.extend_profile("p1");
    bench.run(&format!("cred encrypt --with-key=tpm2-with-public-key --tpm2-public-key={key} --tpm2-device={from} in b.cred"));
    let (_, said) = bench.run(&format!("cred reencrypt --from-tpm2-device={from} --from-tpm2-signature={signature} --for=new.json b.cred"));
    assert_eq!(
        said,
        "`b.cred`: tpm2-with-public-key, un-pinned, bound to signed PCR 11 (sha256), base64, for systemd 255 and later\n"
    );
    assert_eq!((old.leftovers(), new.leftovers()), (vec![], vec![]));
}

/// A value by hand and the same one from a file make the same policy, in the bank that is named.
#[test]
fn pcr_values_come_from_a_file_too() {
    let bench = Bench::new();
    bench.write("in", b"hello");
    bench.write("a.json", identities::of_vector("a").as_bytes());
    let value = "0123456789abcdef".repeat(6);
    let file = format!(r#"[{{"nr":7,"name":"secure-boot-policy","sha384":"{value}"}}]"#);
    bench.write("pcrs.json", file.as_bytes());
    let policy = |options: &str| {
        bench.run(&format!(
            "cred encrypt --for=a.json --with-key=tpm2 in x.cred {options}"
        ));
        let (shown, _) = bench.run("cred inspect --json=short x.cred");
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let tpm = &shown["tpm"];
        [&tpm["bank"], &tpm["pcrs"], &tpm["policy"]].map(ToString::to_string)
    };
    let by_hand = policy(&format!("--tpm2-pcrs=7:sha384={value}"));
    assert_eq!(by_hand[..2], ["\"sha384\"", "[7]"]);
    for pcrs in ["7", "7:sha384"] {
        let from_file = policy(&format!("--tpm2-pcrs={pcrs} --tpm2-pcr-values=pcrs.json"));
        assert_eq!(from_file, by_hand);
    }
    let encrypt = "cred encrypt --for=a.json --with-key=tpm2 in y.cred";
    for (pcrs, error) in [
        ("7+8", "PCR 7 has no value in the sha256 bank"),
        ("7:sha1", "PCR 7 has no value in the sha1 bank"),
        ("8:sha384", "PCR 8 has no value in the sha384 bank"),
    ] {
        bench.refuses(
            &format!("{encrypt} --tpm2-pcrs={pcrs} --tpm2-pcr-values=pcrs.json"),
            &format!("error: cannot use `pcrs.json`: {error}\n"),
        );
    }
}
