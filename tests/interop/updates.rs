//! Kernel updates through the real kernel-install of systemd 262: the companions of a host come along.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::systemd::{Room, Systemd};
use support::vendor::{KERNEL, able_initrd};
use support::{pe, succeed, text, ukikit, vector};

/// What is copied into the root, beside the room that is `/io` there.
struct Host(Room);

/// The UKI is a MiB of this and little more.
const UKI: usize = 1 << 20;

impl Host {
    fn new() -> Option<Self> {
        let host = Self(Systemd::find(262)?.room());
        for directory in [
            "bin",
            "conf",
            "plugins",
            "esp/EFI/Linux",
            "extras.d",
            "tree/usr/share",
        ] {
            fs::create_dir_all(host.0.path(directory)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_ukikit"), host.0.path("bin/ukikit")).unwrap();
        let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-install");
        for name in ["80-ukikit.install", "95-ukikit.install"] {
            fs::copy(plugins.join(name), host.0.path("plugins").join(name)).unwrap();
        }
        host.0
            .write("conf/install.conf", b"layout=uki\nBOOT_ROOT=/io/esp\n");
        host.0.write("conf/entry-token", b"host\n");
        host.0.write("tree/usr/share/feature", b"of the host");
        Some(host)
    }

    /// A vendor's UKI with this systemd, for this version of the system.
    fn uki(&self, name: &str, systemd: u16, version: u16) {
        let os_release = format!("ID=vendor\nVERSION_ID={version}\n");
        let initrd = able_initrd(systemd, &os_release, &["rsa2048.crt"]);
        let uki = pe::addon(&[
            (".osrel", os_release.as_bytes()),
            (".cmdline", b"quiet"),
            (".initrd", &initrd),
            (".uname", KERNEL.as_bytes()),
            (".linux", &vec![0; UKI]),
        ]);
        self.0.write(name, &uki);
    }

    /// An extension for the system of a UKI.
    fn extension(&self, uki: &str, output: &str) {
        let mut build = ukikit();
        build.current_dir(self.0.directory()).args([
            "ext",
            "build",
            "--name=feature",
            "--tree=tree",
        ]);
        build
            .arg(format!("--uki={uki}"))
            .arg(format!("--output={output}"));
        for option in ["key", "crt"] {
            let name = if option == "key" {
                "private-key"
            } else {
                "certificate"
            };
            build.arg(format!(
                "--{name}={}",
                vector(&format!("ddi/keys/rsa2048.{option}")).display()
            ));
        }
        succeed("ext build", build.output().unwrap());
    }

    /// A credential that a generator reads, in the encoding of one systemd.
    fn credential(&self, encoding: &str) {
        self.0
            .write("plain", b"tmpfs /x tmpfs x-initrd.mount 0 0\n");
        let mut encrypt = ukikit();
        encrypt.current_dir(self.0.directory());
        encrypt.args([
            "cred",
            "encrypt",
            "--with-key=null",
            "--name=fstab.extra",
            "plain",
            "fstab.extra.cred",
        ]);
        encrypt.arg(format!("--encoding={encoding}"));
        succeed("cred encrypt", encrypt.output().unwrap());
    }

    /// Runs a script in the root, with kernel-install and our plugins around that of systemd.
    fn script(&self, script: &str) -> Output {
        let plugins = "/io/plugins/80-ukikit.install /usr/lib/kernel/install.d/90-uki-copy.install /io/plugins/95-ukikit.install";
        self.0
            .command("sh")
            .args(["-euc", script])
            .env("PATH", "/io/bin:/usr/bin:/usr/sbin")
            .env("KERNEL_INSTALL_CONF_ROOT", "/io/conf")
            .env("KERNEL_INSTALL_PLUGINS", plugins)
            .output()
            .unwrap()
    }

    fn place(&self, uki: &str, files: &[&str]) {
        let mut place = ukikit();
        place.current_dir(self.0.directory()).args([
            "esp",
            "place",
            "--esp=esp",
            "--encoding=binary",
        ]);
        place.arg(format!("--uki=EFI/Linux/{uki}")).args(files);
        succeed("esp place", place.output().unwrap());
    }

    /// The files below a directory of the room, without what the engine keeps for itself.
    fn tree(&self, directory: &str) -> BTreeMap<String, Vec<u8>> {
        let top = self.0.path(directory);
        let mut found = BTreeMap::new();
        let mut left: Vec<PathBuf> = vec![top.clone()];
        while let Some(at) = left.pop() {
            for entry in fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&top).unwrap().display().to_string();
                if path.is_dir() && name != "loader/ukikit" {
                    left.push(path);
                } else if path.is_file() {
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
        found
    }

    fn names(&self, directory: &str) -> Vec<String> {
        self.tree(directory).into_keys().collect()
    }
}

#[test]
fn from_systemd_257_to_262() {
    let Some(host) = Host::new() else { return };
    host.uki("one.efi", 257, 1);
    host.uki("two.efi", 262, 1);
    host.credential("binary");
    host.extension("one.efi", "feature.sysext.raw");
    succeed("add", host.script("kernel-install add 1 /io/one.efi"));
    host.place("host-1.efi", &["fstab.extra.cred", "feature.sysext.raw"]);
    let added = host.script("kernel-install add 2 /io/two.efi");
    let said = text(&added.stderr);
    succeed("add", added);
    assert!(said.contains("carrying fstab.extra.cred from EFI/Linux/host-1.efi to EFI/Linux/host-2.efi, now in Base64"), "{said}");

    let tree = host.tree("esp");
    let beside = |uki: &str, name: &str| &tree[&format!("EFI/Linux/{uki}.efi.extra.d/{name}")];
    assert_eq!(
        *beside("host-1", "fstab.extra.cred"),
        host.0.read("fstab.extra.cred")
    );
    host.credential_is(beside("host-2", "fstab.extra.cred"));
    assert_eq!(
        beside("host-1", "feature.sysext.raw"),
        beside("host-2", "feature.sysext.raw")
    );
    let mut list = ukikit();
    list.current_dir(host.0.directory()).args([
        "esp",
        "list",
        "--esp=esp",
        "--uki=EFI/Linux/host-2.efi",
    ]);
    let listed = text(&succeed("list", list.output().unwrap()));
    assert_eq!(listed.matches("  ukikit").count(), 2, "{listed}");
}

impl Host {
    /// The real systemd-creds opens it as it is.
    fn credential_is(&self, file: &[u8]) {
        self.0.write("check.cred", file);
        let arguments = [
            "decrypt",
            "--allow-null",
            "--name=fstab.extra",
            "check.cred",
            "-",
        ];
        let opened = succeed("systemd-creds", self.0.run("systemd-creds", &arguments));
        assert_eq!(opened, self.0.read("plain"));
    }
}

#[test]
fn an_extension_for_another_version_is_replaced_or_the_update_refused() {
    let Some(host) = Host::new() else { return };
    host.uki("one.efi", 262, 1);
    host.uki("two.efi", 262, 2);
    host.extension("one.efi", "feature.sysext.raw");
    succeed("add", host.script("kernel-install add 1 /io/one.efi"));
    host.place("host-1.efi", &["feature.sysext.raw"]);
    let before = host.tree("esp");

    let refused = host.script("kernel-install add 2 /io/two.efi");
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(
        said.contains("EFI/Linux/host-2.efi.extra.d/feature.sysext.raw")
            && said.contains("[image-release]"),
        "{said}"
    );
    assert!(
        said.contains(
            "error: the companions of this host would not work with `EFI/Linux/host-2.efi`"
        ),
        "{said}"
    );
    assert_eq!(host.tree("esp"), before, "the old entry is alone");

    host.extension("two.efi", "extras.d/feature.sysext.raw");
    let with_extras = "mkdir -p /run/systemd/uki; ln -s /io/extras.d /run/systemd/uki/extras.d; kernel-install add 2 /io/two.efi";
    succeed("add", host.script(with_extras));
    let after = host.tree("esp");
    assert_eq!(
        after["EFI/Linux/host-2.efi.extra.d/feature.sysext.raw"],
        host.0.read("extras.d/feature.sysext.raw")
    );
    assert_eq!(
        after["EFI/Linux/host-1.efi.extra.d/feature.sysext.raw"],
        host.0.read("feature.sysext.raw")
    );
}

/// The two newest stay installed, so that there are three for a moment.
#[test]
fn ten_updates_where_there_is_room_for_three() {
    let Some(host) = Host::new() else { return };
    for number in 1..=11 {
        host.uki(&format!("{number}.efi"), 262, 1);
    }
    host.credential("base64");
    host.extension("1.efi", "feature.sysext.raw");
    let place = "ukikit esp place --esp=/io/esp --uki=EFI/Linux/host-1.efi /io/fstab.extra.cred /io/feature.sysext.raw";
    // Three of them, what lies beside them, and the MiB that always stays free.
    let script = format!(
        "mount -t tmpfs -o size=4900k tmpfs /io/esp; mkdir -p /io/esp/EFI/Linux
         kernel-install add 1 /io/1.efi
         {place}
         for number in $(seq 2 11); do
             kernel-install add $number /io/$number.efi
             if [ $number -gt 2 ]; then kernel-install remove $((number - 2)); fi
             ls /io/esp/EFI/Linux >/io/after-$number
         done
         kernel-install add 1 /io/1.efi
         if kernel-install add 2 /io/2.efi 2>/io/refused; then exit 1; fi
         mkdir /io/after; cp -r /io/esp/. /io/after/"
    );
    succeed("ten updates", host.script(&script));
    for number in 3..=11 {
        let mut expected: Vec<String> = [number - 1, number]
            .into_iter()
            .flat_map(|number| {
                [
                    format!("host-{number}.efi"),
                    format!("host-{number}.efi.extra.d"),
                ]
            })
            .collect();
        expected.sort();
        let listed = text(&host.0.read(&format!("after-{number}")));
        let mut listed: Vec<&str> = listed.lines().collect();
        listed.sort_unstable();
        assert_eq!(listed, expected);
    }
    let mut expected: Vec<String> = ["1", "10", "11"]
        .into_iter()
        .flat_map(|uki| {
            [
                "",
                ".extra.d/feature.sysext.raw",
                ".extra.d/fstab.extra.cred",
            ]
            .map(|name| format!("EFI/Linux/host-{uki}.efi{name}"))
        })
        .collect();
    expected.sort();
    assert_eq!(host.names("after"), expected);
    let refused = text(&host.0.read("refused"));
    assert!(
        refused.contains("error: no room for `EFI/Linux/host-2.efi`"),
        "{refused}"
    );
}

/// Published, pulled by the real systemd-sysupdate, and carried by the next update of the kernel; then a newer version.
#[test]
fn published_images_reach_the_uki() {
    let Some(host) = Host::new() else { return };
    host.uki("one.efi", 262, 1);
    host.extension("one.efi", "feature.sysext.raw");
    let server = Server::start(host.0.path("web"));
    let publish = |version: &str| {
        let mut publish = ukikit();
        publish
            .current_dir(host.0.directory())
            .args(["publish", "web", "feature.sysext.raw"]);
        publish
            .arg(format!("--image-version={version}"))
            .arg(format!("--url=http://127.0.0.1:{}", server.port));
        text(&succeed("publish", publish.output().unwrap()))
    };
    let first = publish("1");
    fs::write(
        host.0.path("tree/usr/share/feature"),
        "of the second version",
    )
    .unwrap();
    fs::rename(host.0.path("feature.sysext.raw"), host.0.path("first")).unwrap();
    host.extension("one.efi", "feature.sysext.raw");
    let pull = "/usr/lib/systemd/systemd-sysupdate --definitions=/io/web/sysupdate.d update";
    let script = |then: &str| {
        format!(
            "mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/ukikit/updates /var/lib/systemd/uki/extras.d
             cp -r /io/kept/. /var/lib/; {pull}; {then}; cp -a /var/lib/. /io/kept/"
        )
    };
    fs::create_dir(host.0.path("kept")).unwrap();
    succeed(
        "pull",
        host.script(&script("kernel-install add 1 /io/one.efi")),
    );
    let placed = "EFI/Linux/host-1.efi.extra.d/feature.sysext.raw";
    assert_eq!(host.tree("esp")[placed], host.0.read("first"));

    let second = publish("2");
    assert_eq!(text(&host.0.read("web/SHA256SUMS")), first + &second);
    succeed(
        "pull",
        host.script(&script("kernel-install add 2 /io/one.efi")),
    );
    let tree = host.tree("esp");
    assert_eq!(
        tree["EFI/Linux/host-2.efi.extra.d/feature.sysext.raw"],
        host.0.read("feature.sysext.raw")
    );
    assert_eq!(tree[placed], host.0.read("first"));
    assert_eq!(
        host.names("kept/ukikit/updates"),
        ["feature_1.sysext.raw", "feature_2.sysext.raw"]
    );
}

/// Serves the files of a directory on the loopback address, until it is dropped.
struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start(directory: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // A client that went away is its own business.
                let _ = connection.and_then(|connection| answer(connection, &directory));
            }
        });
        Self { port, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One request, one answer (RFC 9112).
fn answer(mut connection: TcpStream, directory: &Path) -> io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let name = request
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .trim_start_matches('/');
    let head = |status: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    match fs::read(directory.join(name)) {
        Ok(content) => {
            connection.write_all(head("200 OK", content.len()).as_bytes())?;
            connection.write_all(&content)
        }
        Err(_) => connection.write_all(head("404 Not Found", 0).as_bytes()),
    }
}
