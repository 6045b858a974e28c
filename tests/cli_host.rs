//! `ukikit host` from outside: what is planned, placed, kept, taken back and refused.

#![cfg(test)]

#[allow(dead_code, reason = "a scene can do more than a host needs")]
#[path = "check/scene.rs"]
mod scene;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use scene::{Scene, Vendor};
use serde_json::Value;
use support::swtpm::Swtpm;
use support::{identities, text, ukikit, vector};
use ukikit_sysext::recipe::Feature;

const HOST: &str = r#"hostname = "web1"

[seal]
bind = "none"

[root]
device = "/dev/nbd0"
type = "ext4"
options = ["ro"]

[[network]]
name = "eno1"
address = ["192.0.2.10/24"]

[[nbd]]
server = "192.0.2.7"
export = "web1"

[recovery]
password-hash = { file = "hash" }

[credentials]
"web.key" = { command = ["cat", "key"] }
"#;

const HASH: &str = "$y$j9T$abcdefghijklmnopqrstuv$ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQ";

const COMPANIONS: &str = "EFI/Linux/vendor.efi.extra.d";

/// A host file beside an ESP whose UKI has the features of these recipes in its initrd.
fn room(recipes: &[&str]) -> Scene {
    let scene = Scene::new();
    let mut vendor = Vendor::default();
    for (path, content) in recipes.iter().flat_map(|name| files_of(name)) {
        if !vendor.with.iter().any(|(other, _)| *other == path) {
            vendor.with.push((path, content));
        }
    }
    scene.uki("vendor", &vendor);
    for (name, content) in [
        ("HOST.toml", HOST),
        ("hash", HASH),
        ("key", "a key"),
        ("web1.json", &identities::of_vector("a")),
    ] {
        fs::write(scene.path(name), content).unwrap();
    }
    scene
}

/// What an extension of a recipe holds; programs are empty.
fn files_of(recipe: &str) -> Vec<(String, Vec<u8>)> {
    let feature = Feature::find(recipe).unwrap();
    let own = feature
        .tree
        .iter()
        .filter(|(_, entry)| !entry.is_directory());
    let own = own.map(|(path, _)| String::from_utf8(path.to_vec()).unwrap());
    let programs = feature
        .recipe
        .programs
        .iter()
        .map(|name| format!("usr/bin/{name}"));
    let files = feature.recipe.files.iter().cloned();
    own.chain(programs)
        .chain(files)
        .map(|path| (path, Vec::new()))
        .collect()
}

fn host(scene: &Scene, arguments: &[&str]) -> Output {
    let mut command = ukikit();
    command
        .current_dir(scene.path(""))
        .arg("host")
        .args(arguments);
    command.output().unwrap()
}

const WHERE: [&str; 4] = [
    "HOST.toml",
    "--esp=esp",
    "--uki=EFI/Linux/vendor.efi",
    "--for=web1.json",
];

fn apply(scene: &Scene, more: &[&str]) -> Output {
    host(scene, &[&["apply"], &WHERE[..], more].concat())
}

/// The files beside the UKI.
fn companions(scene: &Scene) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(scene.path("esp").join(COMPANIONS)) else {
        return BTreeMap::new();
    };
    let read = |path: PathBuf| {
        (
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            fs::read(path).unwrap(),
        )
    };
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// The first word of each line, and the name in it.
fn actions(output: &Output) -> Vec<(String, String)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let action = words.next().unwrap().to_owned();
        let path = words.next().unwrap();
        (action, path.rsplit('/').next().unwrap().to_owned())
    };
    done(output).lines().map(line).collect()
}

const NAMES: [&str; 8] = [
    "fstab.extra.cred",
    "nbd.target.cred",
    "network.network.10-eno1.cred",
    "passwd.hashed-password.root.cred",
    "system.hostname.cred",
    "systemd.unit-dropin.emergency.service~recovery.cred",
    "systemd.unit-dropin.rescue.service~recovery.cred",
    "web.key.cred",
];

#[test]
fn a_second_run_changes_nothing_and_undo_takes_all_back() {
    let scene = room(&["network", "nbd"]);
    let first = actions(&apply(&scene, &[]));
    let all = |action: &str| {
        NAMES
            .map(|name| (action.to_owned(), name.to_owned()))
            .to_vec()
    };
    assert_eq!(first, all("add"));
    let before = companions(&scene);
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        NAMES.iter().collect::<Vec<_>>()
    );

    assert_eq!(actions(&apply(&scene, &[])), all("keep"));
    assert_eq!(companions(&scene), before);

    undo(&scene);
    assert_eq!(companions(&scene), BTreeMap::new());
}

#[test]
fn only_what_changed_is_sealed_anew() {
    let scene = room(&["network", "nbd"]);
    done(&apply(&scene, &[]));
    let before = companions(&scene);
    fs::write(scene.path("key"), "another key").unwrap();
    fs::write(
        scene.path("HOST.toml"),
        HOST.replace("hostname = \"web1\"\n", ""),
    )
    .unwrap();

    let second = actions(&apply(&scene, &[]));
    let changed: Vec<_> = second
        .iter()
        .filter(|(action, _)| action != "keep")
        .collect();
    assert_eq!(
        changed,
        [
            &("replace".to_owned(), "web.key.cred".to_owned()),
            &("remove".to_owned(), "system.hostname.cred".to_owned()),
        ]
    );
    let after = companions(&scene);
    for (name, content) in &after {
        assert_eq!(before[name] == *content, name != "web.key.cred", "{name}");
    }
    assert!(!after.contains_key("system.hostname.cred"));
}

/// The files of the ESP below a directory, without what the engine keeps for itself.
fn files_below(scene: &Scene, directory: &str) -> Vec<String> {
    let top = scene.path("esp").join(directory);
    let mut found = Vec::new();
    let mut left = vec![top.clone()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("loader/ukikit") {
                left.push(path);
            } else if path.is_file() {
                found.push(path.strip_prefix(&top).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn loader(scene: &Scene, version: &str) {
    let file = format!("MZ #### LoaderInfo: systemd-boot {version} ####");
    scene.write("EFI/BOOT/BOOTX64.EFI", file);
}

/// What is new and what it replaces lie apart, each with its entry; what stays the same is where it was.
#[test]
fn a_set_on_trial_has_an_entry_of_its_own() {
    let scene = room(&["network", "nbd"]);
    loader(&scene, "262.1-1");
    done(&apply(&scene, &[]));
    let before = (companions(&scene), files_below(&scene, ""));
    let keep = NAMES.map(|name| ("keep".to_owned(), name.to_owned()));
    assert_eq!(actions(&apply(&scene, &["--tries=3"])), keep);
    fs::write(scene.path("key"), "another key").unwrap();
    let host = HOST.replace("hostname = \"web1\"\n", "");
    fs::write(scene.path("HOST.toml"), host).unwrap();

    done(&apply(&scene, &["--tries=3"]));
    let (tried, kept) = (
        "EFI/Linux/vendor.efi.tried.d",
        "EFI/Linux/vendor.efi.kept.d",
    );
    assert_eq!(
        files_below(&scene, tried),
        [
            "systemd.unit-dropin.emergency.service~tries.cred",
            "web.key.cred"
        ]
    );
    assert_eq!(
        files_below(&scene, kept),
        ["system.hostname.cred", "web.key.cred"]
    );
    let read = |path: &str| fs::read_to_string(scene.path("esp").join(path)).unwrap();
    assert_eq!(
        read("loader/entries/vendor.efi-tried+3.conf"),
        "title vendor.efi, on trial\nsort-key vendor\nversion 1\nuki /EFI/Linux/vendor.efi\n\
         extra /EFI/Linux/vendor.efi.tried.d/web.key.cred\n\
         extra /EFI/Linux/vendor.efi.tried.d/systemd.unit-dropin.emergency.service~tries.cred\n"
    );
    assert_eq!(
        read("loader/entries/vendor.efi-kept.conf"),
        "title vendor.efi, as before\nsort-key vendor\nversion 1\nuki /EFI/Linux/vendor.efi\n\
         extra /EFI/Linux/vendor.efi.kept.d/web.key.cred\n\
         extra /EFI/Linux/vendor.efi.kept.d/system.hostname.cred\n"
    );
    let shared = companions(&scene);
    let mut expected = before.0.clone();
    expected.retain(|name, _| !["system.hostname.cred", "web.key.cred"].contains(&&**name));
    assert_eq!(shared, expected);
    assert_eq!(
        fs::read(scene.path("esp").join(kept).join("web.key.cred")).unwrap(),
        before.0["web.key.cred"]
    );
    assert_eq!(
        refused(&apply(&scene, &["--tries=3"])),
        "error: no set of companions can be tried over `EFI/Linux/vendor.efi`: one is on trial already\n\n\
         hint: `ukikit host apply` without --tries= makes it stay, `ukikit esp undo` takes it back\n"
    );

    // The boot loader has counted, and none of the boots was good.
    let entries = scene.path("esp/loader/entries");
    let rename = |from: &str, to: &str| fs::rename(entries.join(from), entries.join(to)).unwrap();
    rename("vendor.efi-tried+3.conf", "vendor.efi-tried+0-3.conf");
    undo(&scene);
    assert_eq!((companions(&scene), files_below(&scene, "")), before);

    // Once more, and this time one was: it stays.
    fs::write(scene.path("HOST.toml"), HOST).unwrap();
    done(&apply(&scene, &["--tries=3"]));
    let mut expected = before.0;
    for name in files_below(&scene, tried) {
        if !name.ends_with("~tries.cred") {
            let new = fs::read(scene.path("esp").join(tried).join(&name)).unwrap();
            assert_ne!(expected.insert(name, new), None);
        }
    }
    rename("vendor.efi-tried+3.conf", "vendor.efi-tried.conf");
    done(&apply(&scene, &[]));
    assert_eq!(companions(&scene), expected);
    assert_eq!(files_below(&scene, ""), before.1);
}

#[test]
fn where_a_set_cannot_be_tried_that_is_said_before() {
    let scene = room(&["network", "nbd"]);
    done(&apply(&scene, &[]));
    fs::write(scene.path("key"), "another key").unwrap();
    let before = files_below(&scene, "");
    let cannot = "error: no set of companions can be tried over `EFI/Linux/vendor.efi`: ";
    let said = |expected: &str| {
        let said = refused(&apply(&scene, &["--tries=3"]));
        assert_eq!(said, format!("{cannot}{expected}\n"));
    };
    said("there is no systemd-boot beside it");
    loader(&scene, "257.9-1");
    said("`EFI/BOOT/BOOTX64.EFI` is systemd-boot 257, and entries with `extra` lines take 261");
    loader(&scene, "261");
    scene.write("loader/loader.conf", "timeout 3\ndefault vendor.efi\n");
    said("loader/loader.conf starts something else: `default vendor.efi`");
    fs::remove_file(scene.path("esp/loader/loader.conf")).unwrap();
    fs::remove_file(scene.path("esp/EFI/BOOT/BOOTX64.EFI")).unwrap();
    assert_eq!(files_below(&scene, ""), before);
    assert_eq!(
        apply(&scene, &["--tries=0"]).status.code(),
        Some(2),
        "none is no trial"
    );
}

fn undo(scene: &Scene) {
    let mut undo = ukikit();
    undo.current_dir(scene.path(""))
        .args(["esp", "undo", "--esp=esp"]);
    done(&undo.output().unwrap());
}

#[test]
fn a_dry_run_writes_nothing() {
    let scene = room(&["network", "nbd"]);
    assert_eq!(
        actions(&apply(&scene, &["--dry-run"])).len(),
        NAMES.len() + 1
    );
    assert_eq!(companions(&scene), BTreeMap::new());
    assert!(!scene.path(".ukikit-host").exists());
}

/// What its reader will get, by the TPM it is for.
#[test]
fn the_hosts_tpm_opens_what_was_placed() {
    let scene = room(&["network", "nbd"]);
    done(&apply(&scene, &[]));
    let tpm = Swtpm::start("a");
    for (name, content) in [
        ("fstab.extra", "/dev/nbd0 / ext4 ro 0 0\n"),
        (
            "nbd.target",
            "version=1\nhost=192.0.2.7\nport=10809\nexport=web1\n",
        ),
        (
            "network.network.10-eno1",
            "[Match]\nName=eno1\n\n[Network]\nAddress=192.0.2.10/24\n",
        ),
        ("passwd.hashed-password.root", HASH),
        ("system.hostname", "web1"),
        ("web.key", "a key"),
    ] {
        let mut decrypt = ukikit();
        decrypt.args(["cred", "decrypt", "--tpm2-device", &tpm.device()]);
        decrypt
            .arg(
                scene
                    .path("esp")
                    .join(COMPANIONS)
                    .join(format!("{name}.cred")),
            )
            .arg("-");
        assert_eq!(done(&decrypt.output().unwrap()), content, "{name}");
    }
}

/// The plan runs no program and opens no secret: here both would fail.
#[test]
fn a_plan_tells_all_and_reads_no_secret() {
    let scene = room(&["network", "nbd"]);
    fs::remove_file(scene.path("hash")).unwrap();
    fs::remove_file(scene.path("key")).unwrap();
    let plan = host(&scene, &[&["plan"], &WHERE[..], &["--json=short"]].concat());
    let plan: Value = serde_json::from_str(&done(&plan)).unwrap();
    assert_eq!(plan["schema"], 1);
    assert_eq!(plan["systemd"], 262);
    let key = plan["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["name"] == "web.key");
    assert_eq!(
        key.unwrap(),
        &serde_json::json!({
            "name": "web.key",
            "from": "[credentials]",
            "reader": "[credentials]",
            "path": format!("{COMPANIONS}/web.key.cred"),
            "withKey": "tpm2",
            "pinned": true,
            "encoding": "base64",
            "boundTo": "no PCR",
            "stops": ["opening it with another TPM"],
            "breaks": ["a replaced or cleared TPM"],
            "secret": true,
            "sources": ["command cat"],
            "size": null,
            "state": "new",
        })
    );
    assert_eq!(
        plan["extensions"],
        serde_json::json!([
            { "recipe": "nbd", "because": ["[[nbd]]"], "by": "initrd" },
            { "recipe": "network", "because": ["[[network]]", "[[nbd]]"], "by": "initrd" },
        ])
    );
    assert_eq!(plan["findings"], serde_json::json!([]));
    assert_eq!(companions(&scene), BTreeMap::new());
}

#[test]
fn an_extension_that_nothing_brings_is_named() {
    let scene = room(&[]);
    let plan = host(&scene, &[&["plan"], &WHERE[..]].concat());
    assert_eq!(plan.status.code(), Some(1));
    let shown = text(&plan.stdout);
    assert!(shown.contains("\nextension network (for [[network]], [[nbd]]): from nothing: no usr/lib/systemd/system/ukikit-network.service, "), "{shown}");
    assert_eq!(
        refused(&apply(&scene, &[])),
        "error: nothing brings what the host file needs: no extension of recipe nbd, network\n\n\
         hint: ukikit ext build --name=network --recipe=nbd --recipe=network --uki=FILE --private-key=KEY --certificate=CERT \
         --output=network.sysext.raw, then --extension=network.sysext.raw here\n"
    );
    assert_eq!(companions(&scene), BTreeMap::new());
    assert!(!scene.path(".ukikit-host").exists());
}

#[test]
fn an_image_given_along_brings_its_recipes() {
    let scene = room(&[]);
    let tree = scene.path("tree");
    for (path, content) in ["network", "nbd"].into_iter().flat_map(files_of) {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mut build = ukikit();
    build.current_dir(scene.path("")).args([
        "ext",
        "build",
        "--name=storage",
        "--tree=tree",
        "--output=storage.sysext.raw",
    ]);
    for (option, file) in [
        ("private-key", "rsa2048.key"),
        ("certificate", "rsa2048.crt"),
    ] {
        build.arg(format!(
            "--{option}={}",
            vector(&format!("ddi/keys/{file}")).display()
        ));
    }
    done(&build.output().unwrap());

    let placed = actions(&apply(&scene, &["--extension=storage.sysext.raw"]));
    assert!(
        placed.contains(&("add".to_owned(), "storage.sysext.raw".to_owned())),
        "{placed:?}"
    );
    // From now on it is there.
    assert!(
        actions(&apply(&scene, &[]))
            .iter()
            .all(|(action, _)| action == "keep")
    );
}

#[test]
fn secrets_stand_in_the_file_by_permission_alone() {
    let scene = room(&["network", "nbd"]);
    let inline = HOST.replace("{ file = \"hash\" }", &format!("{HASH:?}"));
    fs::write(scene.path("HOST.toml"), inline).unwrap();
    assert_eq!(
        refused(&apply(&scene, &[])),
        "error: HOST.toml: [recovery]: a secret of credential passwd.hashed-password.root stands in the host file\n\n\
         hint: give it as { file = … }, { command = […] }, { stdin = … } or { prompt = … }, or add --allow-inline-secrets\n"
    );
    assert!(!scene.path(".ukikit-host").exists());
    done(&apply(&scene, &["--allow-inline-secrets"]));
}

#[test]
fn secrets_come_from_one_object_on_a_pipe() {
    let scene = room(&["network", "nbd"]);
    let piped = HOST.replace("{ file = \"hash\" }", "{ stdin = \"hash\" }");
    fs::write(scene.path("HOST.toml"), piped).unwrap();
    assert_eq!(
        refused(&apply(&scene, &[])),
        "error: HOST.toml: [recovery] passwd.hashed-password.root: the secrets have no \"hash\": give them with --secrets=\n"
    );
    fs::write(scene.path("secrets"), format!("{{\"hash\": {HASH:?}}}")).unwrap();
    done(&apply(&scene, &["--secrets=secrets"]));
    // Not even a wrong value shows.
    fs::write(scene.path("secrets"), "{\"hash\": \"two\\nlines\"}").unwrap();
    assert_eq!(
        refused(&apply(&scene, &["--secrets=secrets"])),
        "error: HOST.toml: [recovery] passwd.hashed-password.root: what comes from --secrets=\"hash\": it has more than one line\n"
    );
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let scene = room(&["network", "nbd"]);
    for (from, to, error) in [
        (
            "type = \"ext4\"",
            "typ = \"ext4\"",
            "HOST.toml:8: [root] typ: unknown field `typ`, expected one of `device`, `type`, `options`, `subvolume`, `fsck`",
        ),
        (
            "\"/dev/nbd0\"",
            "\"nbd0\"",
            "HOST.toml:7: [root] device: \"nbd0\": a device is named by UUID=, LABEL=, PARTUUID=, PARTLABEL= or its path below /dev",
        ),
        (
            "192.0.2.10/24",
            "192.0.2.10",
            "HOST.toml:13: [[network]] address: \"192.0.2.10\": it is no address with the length of its prefix, such as 192.0.2.10/24",
        ),
        (
            "bind = \"none\"",
            "",
            "HOST.toml: [credentials] web.key: it is not said what it is bound to: give `bind`",
        ),
        (
            "\"web.key\"",
            "\"nbd.target\"",
            "HOST.toml:22: [credentials]: credential nbd.target comes from [[nbd]] as well",
        ),
    ] {
        fs::write(scene.path("HOST.toml"), HOST.replace(from, to)).unwrap();
        assert_eq!(refused(&apply(&scene, &[])), format!("error: {error}\n"));
    }
    assert_eq!(companions(&scene), BTreeMap::new());
}

/// The tree of an addon or an extension: the hash in the clear, and what gives it to the shell. Its commands run here on a shadow of our own.
#[test]
fn the_recovery_tree_opens_the_shell_without_a_tpm() {
    let scene = room(&["network", "nbd"]);
    let recovery = ["recovery", "HOST.toml", "tree"];
    host(&scene, &[&recovery[..], &["--dry-run"]].concat());
    assert!(!scene.path("tree").exists());
    done(&host(&scene, &recovery));
    let hash = scene.path("tree/usr/lib/credstore/recovery.hashed-password.root");
    assert_eq!(fs::read_to_string(&hash).unwrap(), format!("{HASH}\n"));
    assert_eq!(hash.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let units = scene.path("tree/usr/lib/systemd/system");
    let [emergency, rescue] = ["emergency", "rescue"].map(|unit| {
        let drop_in = units.join(format!("{unit}.service.d/50-ukikit-recovery.conf"));
        fs::read_to_string(drop_in).unwrap()
    });
    assert_eq!(emergency, rescue);
    let lines: Vec<&str> = emergency.lines().collect();
    let [
        "[Service]",
        "ImportCredential=recovery.hashed-password.root",
        start,
    ] = lines[..]
    else {
        panic!("{emergency}")
    };

    let shadow = scene.path("shadow");
    fs::write(&shadow, "bin:*:1::::::\nroot:!*:2:0:99999:7:::\n").unwrap();
    let script = start.strip_prefix("ExecStartPre=-/bin/sh -c '").unwrap();
    let script = script.strip_suffix('\'').unwrap().replace("$$", "$");
    let script = script.replace("/etc/shadow", shadow.to_str().unwrap());
    let script = script.replace("/run/", &format!("{}/", scene.path("").display()));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]);
    shell.env("CREDENTIALS_DIRECTORY", hash.parent().unwrap());
    done(&shell.output().unwrap());
    let wanted = format!("bin:*:1::::::\nroot:{HASH}:2:0:99999:7:::\n");
    assert_eq!(fs::read_to_string(shadow).unwrap(), wanted);

    assert_eq!(
        refused(&host(&scene, &recovery)),
        "error: `tree` is there already\n"
    );
    let without = HOST.replace("password-hash = { file = \"hash\" }", "tools = true");
    fs::write(scene.path("HOST.toml"), without).unwrap();
    assert_eq!(
        refused(&host(&scene, &["recovery", "HOST.toml", "other"])),
        "error: HOST.toml: [recovery] has no `password-hash`, which is what opens the shell\n"
    );
    assert!(!scene.path("other").exists());
}

/// What `credential` holds, given to the program of an extension: what it says, when it refuses.
fn refusal_of(recipe: &str, credential: &str, content: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join(credential), content).unwrap();
    let program = format!("../sysext/recipes/{recipe}/tree/usr/libexec/ukikit/{recipe}");
    let mut sh = Command::new("sh");
    sh.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(program));
    refused(
        &sh.arg("login")
            .env("CREDENTIALS_DIRECTORY", place.path())
            .output()
            .unwrap(),
    )
}

#[test]
fn an_extension_refuses_what_it_does_not_know() {
    for (recipe, credential) in [
        ("iscsi", "iscsi.target"),
        ("nbd", "nbd.target"),
        ("nvme-tcp", "nvme.target"),
    ] {
        assert_eq!(
            refusal_of(recipe, credential, "version=2\n"),
            format!("{credential}: this extension reads version 1 of its format, not 2\n")
        );
        assert_eq!(
            refusal_of(recipe, credential, "version=1\nhost=192.0.2.7\ncolour=red"),
            format!(
                "{credential}: this extension does not know the key {}\n",
                if recipe == "nbd" { "colour" } else { "host" }
            )
        );
    }
}

/// `docs/host.schema.json` is what `ukikit host schema` prints.
#[test]
fn the_schema_in_the_documentation_is_current() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/host.schema.json");
    let kept = fs::read_to_string(kept).unwrap();
    let output = ukikit().args(["host", "schema"]).output().unwrap();
    assert_eq!(done(&output), kept);
}
