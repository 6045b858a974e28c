//! `ukikit cred names`, and what `cred encrypt` refuses because its reader would: exact output.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use serde_json::Value;
use support::bench::Bench;

#[test]
fn the_catalog_is_a_table() {
    let (shown, _) = Bench::new().run("cred names");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 71);
    assert_eq!(
        lines[..3].join("\n"),
        "NAME                               READER     ACTS IN       SINCE  CONTENT          ENCODING\n\
         fstab.extra                        generator  initrd, host  254    fstab            binary to 261\n\
         fstab.extra.initrd                 generator  initrd        254    fstab            binary to 261"
    );
}

#[test]
fn a_target_leaves_out_what_it_does_not_know() {
    let (shown, _) = Bench::new().run("cred names --target-systemd=253");
    assert!(!shown.contains("fstab.extra"), "{shown}");
    assert!(shown.contains("vmm.notify_socket                  manager    initrd, host  253    value            binary\n"));
    let (shown, _) = Bench::new().run("cred names --target-systemd=262");
    assert!(!shown.contains("binary"), "{shown}");
}

#[test]
fn one_name_in_full() {
    let (shown, _) = Bench::new().run("cred names fstab.extra.initrd");
    assert_eq!(
        shown,
        "Name:      fstab.extra.initrd\n\
         Is:        more lines of fstab for the initrd itself, whose root to be is /sysroot\n\
         Read by:   systemd-fstab-generator (generator)\n\
         Acts in:   initrd\n\
         Since:     systemd 254\n\
         Content:   fstab\n\
         Encoding:  binary to 261, base64 from 262\n\
         Mind:      one file cannot serve systemd up to 261 and from 262 on: the first takes binary, the other Base64\n\
         Mind:      only what came with the boot is read, from the EFI system partition: no credential store is looked at\n\
         Mind:      it is read before PCR 11 takes enter-initrd: a signed policy must cover the phase before it\n\
         Mind:      the initrd has no host secret: seal it to the TPM alone\n\
         Mind:      it can decide the root file system, and whoever writes the EFI system partition can seal one: see SECURITY.md\n"
    );
    let (shown, _) = Bench::new().run(r"cred names systemd.extra-unit.a\x2db.mount");
    assert!(shown.ends_with("Mind:      the EFI system partition cannot hold it: FAT cannot hold the character '\\\\'\n"), "{shown}");
}

#[test]
fn the_same_for_programs() {
    let (json, _) = Bench::new().run("cred names --json=short --target-systemd=257 network.hosts");
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap(),
        serde_json::json!({
            "schema": 1,
            "targetSystemd": 257,
            "names": [{
                "pattern": "network.hosts",
                "description": "the content of /etc/hosts",
                "reader": "service",
                "program": "systemd-tmpfiles-setup.service",
                "initrd": true,
                "host": true,
                "decidesRoot": false,
                "since": 252,
                "content": "text",
                "encodings": [{ "since": 257, "until": 257, "encoding": "base64" }],
                "traps": ["the initrd has no host secret: under one, it opens on the host alone"],
            }],
        })
    );
}

#[test]
fn unknown_names_get_a_sentence() {
    let bench = Bench::new();
    bench.refuses(
        "cred names my.secret",
        "error: my.secret is not a well-known credential\n\n\
         hint: any unit can ask for it with ImportCredential= or LoadCredentialEncrypted=, and takes it in Base64\n",
    );
    bench.refuses(
        "cred names --target-systemd=256 import.pull",
        "error: systemd 256 does not read import.pull: 257 and later do\n",
    );
}

#[test]
fn what_the_reader_would_not_take_is_refused() {
    let bench = Bench::new();
    bench.write("fstab", b"# root\n/dev/sda1 /sysroot\n");
    bench.write("name", b"web1\n");
    bench.write("unit", b"[Service]\n");
    for (arguments, error) in [
        (
            "fstab fstab.extra.cred",
            "systemd-fstab-generator would not take this as fstab.extra (fstab): line 2: it has fewer than three fields: device, mount point, type",
        ),
        (
            "name system.hostname.cred",
            "systemd, as PID 1 would not take this as system.hostname (host name): it ends in a newline, which its reader takes as a part of the value",
        ),
        (
            "unit systemd.extra-unit.demo.cred",
            "systemd-debug-generator would not take this as systemd.extra-unit.demo (unit file): it does not end in the name of a unit, such as demo.service",
        ),
    ] {
        let error = format!("error: {error}\n\nhint: --force makes it all the same\n");
        bench.refuses(&format!("cred encrypt --with-key=null {arguments}"), &error);
        bench.run(&format!("cred encrypt --with-key=null --force {arguments}"));
    }
}

#[test]
fn what_cannot_reach_its_reader_is_refused() {
    let bench = Bench::new();
    bench.write("unit", b"[Service]\n");
    bench.write("large", &vec![b'#'; 800_000]);
    for (arguments, error) in [
        (
            r"--with-key=null unit systemd.extra-unit.a\x2db.service.cred",
            "systemd.extra-unit.a\\x2db.service is read from the EFI system partition alone, which cannot hold it: FAT cannot hold the character '\\\\'\n\n\
             hint: --force makes it all the same",
        ),
        (
            "--with-key=host --root=. unit fstab.extra.initrd.cred",
            "fstab.extra.initrd is read in the initrd alone, which has no host secret\n\nhint: give --with-key=tpm2",
        ),
        (
            "--with-key=host --root=. --uid=bob unit network.network.a.cred",
            "network.network.a is read by the system, which opens no credential scoped to a user\n\nhint: leave --uid= out",
        ),
        (
            "--with-key=null --target-systemd=256 unit import.pull.cred",
            "systemd 256 does not read import.pull: 257 and later do\n\nhint: --force makes it all the same",
        ),
        (
            "--with-key=null large fstab.extra.cred",
            "its file has 1080300 bytes, and PID 1 takes 1048576 from the EFI system partition, all credentials together\n\n\
             hint: --force makes it all the same",
        ),
    ] {
        bench.refuses(
            &format!("cred encrypt {arguments}"),
            &format!("error: {error}\n"),
        );
    }
    let (_, said) = bench.run("cred encrypt --with-key=null large my.secret.cred");
    assert_eq!(
        said,
        "warning: its file has 1080300 bytes, and PID 1 takes 1048576 from the EFI system partition, all credentials together\n\
         `my.secret.cred`: null, base64, for systemd 251 and later\n"
    );
}
