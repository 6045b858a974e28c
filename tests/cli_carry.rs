//! `ukikit cred carry` and `cred carried`: exact output, and who is refused.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use support::bench::Bench;
use support::swtpm::Swtpm;
use support::vector;

#[test]
fn a_carrier_is_for_one_host_and_for_a_while() {
    if !std::path::Path::new("/usr/bin/swtpm").exists() {
        return support::skip("no swtpm");
    }
    let bench = Bench::new();
    bench.write("in", b"hello");
    bench.write("fstab", b"/dev/a /a ext4\n");
    for state in ["a", "b"] {
        let tpm = Swtpm::start(state);
        bench.run(&format!(
            "tpm identity --root=. --tpm2-device={} {state}.json",
            tpm.device()
        ));
    }
    bench.run("cred encrypt --for=a.json --with-key=tpm2 --pinned=yes in lab.one.cred");
    bench.run("cred encrypt --for=a.json --with-key=tpm2 --encoding=binary in lab.two.cred");
    bench.run("cred encrypt --for=b.json --with-key=tpm2 --pinned=yes in lab.other.cred");
    bench.run("cred encrypt --for=a.json --with-key=tpm2 fstab fstab.extra.cred");
    bench.run("cred encrypt --with-key=host --root=. in lab.host.cred");
    let keys = vector("ddi/keys");
    let keys = keys.display();
    let carry = format!(
        "cred carry --for=a.json --generation=3 --private-key={keys}/p256.key --certificate={keys}/p256.crt --output=web1.sysext.raw"
    );
    for (arguments, error) in [
        (
            "--not-after=@4000000000 lab.other.cred",
            "cannot carry lab.other: it is sealed to another storage root key, 000bd5",
        ),
        (
            "--not-after=@4000000000 fstab.extra.cred",
            "cannot carry fstab.extra: it is read before any extension is merged",
        ),
        (
            "--not-after=@4000000000 lab.host.cred",
            "cannot carry lab.host: it takes the host secret, which the initrd has not",
        ),
        (
            "--not-after=@4000000000 lab.one.cred lab.one.cred",
            "lab.one is there twice",
        ),
        ("--not-after=@5 lab.one.cred", "--not-after=@5 has passed"),
    ] {
        let output = bench.start(&format!("{carry} {arguments}"), b"");
        let said = support::text(&output.stderr);
        // Enough of a TPM name to see that it is one.
        let wanted = error.trim_end_matches("000bd5");
        assert!(said.starts_with(&format!("error: {wanted}")), "{said}");
        assert!(!bench.path("web1.sysext.raw").exists(), "{arguments}");
    }
    let (_, said) = bench.run(&format!(
        "{carry} --not-after=@4000000000 lab.two.cred lab.one.cred"
    ));
    assert_eq!(
        said,
        "`web1.sysext.raw`: generation 3, good until @4000000000, with lab.one, lab.two\n"
    );

    let carried = format!("cred carried web1.sysext.raw --certificate={keys}/p256.crt");
    let (shown, _) = bench.run(&format!("{carried} --for=a.json --generation=3"));
    assert_eq!(
        shown,
        "generation 3, good until @4000000000, with lab.one, lab.two\n"
    );
    let other = "000b686bbd18531324905c62361828c3a311771ed6d907dc0482e31882cf948e652b";
    for (arguments, error) in [
        (
            "--for=b.json",
            format!("it is the carrier of another host, whose storage root key is {other}"),
        ),
        (
            "--for=a.json --timestamp=@4000000001",
            "it expired at @4000000000".into(),
        ),
        (
            "--for=a.json --generation=4",
            "it is generation 3, and 4 or later is wanted".into(),
        ),
    ] {
        bench.refuses(
            &format!("{carried} {arguments}"),
            &format!("error: cannot take `web1.sysext.raw`: {error}\n"),
        );
    }
    bench.run(
        &format!("ext verify --certificate={keys}/p256.crt --base=os-release web1.sysext.raw")
            .replace("--base=os-release", &base(&bench)),
    );
    assert_others_look_too(&bench, &carry, &keys.to_string(), other);
    let foreign = bench.start(
        &carried
            .replace("p256.crt", "other.crt")
            .replace("cred carried", "cred carried --for=a.json"),
        b"",
    );
    assert_eq!(foreign.status.code(), Some(1));
}

/// What places a carrier, and what verifies any image, refuse another host's and an expired one.
fn assert_others_look_too(bench: &Bench, carry: &str, keys: &str, other: &str) {
    std::fs::create_dir(bench.path("esp")).unwrap();
    let place = format!("esp place --esp=esp --global --dry-run --certificate={keys}/p256.crt");
    let cannot = "error: cannot verify `web1.sysext.raw`:";
    bench.refuses(
        &format!("{place} web1.sysext.raw"),
        &format!(
            "{cannot} it is the carrier of one host, and it is not said which host this is\n\n\
             hint: give --for=FILE, what ukikit tpm identity wrote there\n"
        ),
    );
    let foreign = format!("it is the carrier of another host, whose storage root key is {other}\n");
    bench.refuses(
        &format!("{place} --for=b.json web1.sysext.raw"),
        &format!("{cannot} {foreign}"),
    );
    bench.run(&format!("{place} --for=a.json web1.sysext.raw"));

    let verify = format!("ext verify --certificate={keys}/p256.crt {}", base(bench));
    let verify = |arguments: &str| {
        let output = bench.start(&format!("{verify} {arguments}"), b"");
        (output.status.code(), support::text(&output.stdout))
    };
    assert_eq!(verify("--for=a.json web1.sysext.raw").0, Some(0));
    assert_eq!(
        verify("--for=b.json web1.sysext.raw"),
        (
            Some(1),
            format!("web1.sysext.raw: /usr/lib/ukikit/carrier.json: {foreign}")
        )
    );
    bench.run(
        &format!("{carry} --not-after=+1s lab.one.cred").replace("web1.sysext", "short.sysext"),
    );
    // It is good until the end of a second.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let (status, said) = verify("short.sysext.raw");
    assert_eq!(status, Some(1));
    assert!(
        said.starts_with("short.sysext.raw: /usr/lib/ukikit/carrier.json: it expired at @"),
        "{said}"
    );
    let output = bench.start(&format!("{place} --for=a.json short.sysext.raw"), b"");
    assert_eq!(output.status.code(), Some(1));
    let said = support::text(&output.stderr);
    assert!(
        said.starts_with("error: cannot verify `short.sysext.raw`: it expired at @"),
        "{said}"
    );
}

fn base(bench: &Bench) -> String {
    bench.write("os-release", b"ID=debian\n");
    "--base=os-release".into()
}
