//! The Debian package on clean systems, with systemd 262 and 257: it installs, what it brings works there, and it goes whole; what a
//! first boot seals there, their systemd does.

#![cfg(test)]

#[allow(dead_code, reason = "a scene can do more than a first boot needs")]
#[path = "../check/scene.rs"]
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Output};

use scene::{Scene, Vendor};
use support::swtpm::Swtpm;
use support::systemd::with_mounts;
use support::{run, setting, skip, succeed, text};
use tempfile::TempDir;

/// A clean root of a suite with a layer above it, which takes what is written.
struct Clean {
    root: String,
    place: TempDir,
}

/// Enters the root `$1` with the layer and the room in `$2`.
const ENTER: &str = r#"
    root=$1 place=$2 script=$3
    mkdir -p "$place/upper" "$place/work" "$place/root" "$place/room"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$place/upper,workdir=$place/work" "$place/root"
    for dir in dev proc sys; do mount --rbind "/$dir" "$place/root/$dir"; done
    mount -t tmpfs tmpfs "$place/root/run"
    mount --bind "$place/room" "$place/root/io"
    exec chroot "$place/root" sh -euc "cd /io; $script"
"#;

impl Clean {
    /// `None`, said aloud, when there is none.
    fn new(suite: &str) -> Option<Self> {
        let Some(root) = setting(&format!("UKIKIT_CLEAN_{}", suite.to_uppercase())) else {
            skip(&format!(
                "{suite}: no clean root, tests/run --full makes one"
            ));
            return None;
        };
        // A layer of a file system lies on no other layer.
        let place = TempDir::new_in(Path::new(&root).parent().unwrap()).unwrap();
        Some(Self { root, place })
    }

    fn run(&self, script: &str) -> Output {
        let mut shell = with_mounts(ENTER);
        shell.arg(&self.root).arg(self.place.path()).arg(script);
        shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        shell.output().unwrap()
    }

    fn says(&self, script: &str) -> String {
        text(&succeed(script, self.run(script)))
    }

    /// The package, as `packaging/deb` makes it of the program under test.
    fn package(&self) {
        let room = self.place.path().join("room");
        std::fs::create_dir_all(&room).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/deb");
        let mut make = Command::new(script);
        make.arg(env!("CARGO_BIN_EXE_ukikit")).current_dir(room);
        succeed("packaging/deb", make.output().unwrap());
    }
}

/// What bash offers for a command line that ends in a word begun.
const COMPLETE: &str = r#"bash -c '
    . /usr/share/bash-completion/bash_completion
    . /usr/share/bash-completion/completions/ukikit
    COMP_WORDS=(ukikit ext bu) COMP_CWORD=2 COMP_LINE="ukikit ext bu" COMP_POINT=13
    _ukikit ukikit bu ext
    echo "${COMPREPLY[@]}"'"#;

/// A boot partition with nothing but its directories.
const CHECK: &str = "mkdir -p esp/EFI/Linux; ukikit check --esp=esp";

#[test]
fn full_the_package_installs_works_and_goes() {
    for (suite, systemd) in [("forky", "262"), ("trixie", "257")] {
        let Some(clean) = Clean::new(suite) else {
            return;
        };
        clean.package();
        let before = clean.says("find / -xdev -path /io -prune -o -print | sort");
        clean.says("dpkg --install ukikit_*.deb");
        assert_eq!(clean.says("dpkg --audit"), "");
        assert!(
            clean
                .says("systemctl --version")
                .contains(&format!("systemd {systemd}"))
        );

        // Of another width than 80 man keeps no formatted page, which would be there when the package is gone.
        let page = clean.says("MANWIDTH=100 man -P cat ukikit-ext-build");
        for part in [
            "ukikit-ext-build",
            "SYNOPSIS",
            "--recipe",
            "EXAMPLES",
            "iSCSI for the initrd",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        assert_eq!(clean.says(COMPLETE), "build\n");
        assert_eq!(clean.says(CHECK), "0 errors, 0 warnings, 0 notes\n");

        clean.says("dpkg --purge ukikit");
        let after = clean.says("rm -rf esp; find / -xdev -path /io -prune -o -print | sort");
        let left: Vec<&str> = after
            .lines()
            .filter(|line| !before.lines().any(|known| known == *line))
            .collect();
        let own: Vec<&&str> = left.iter().filter(|path| path.contains("ukikit")).collect();
        assert!(own.is_empty(), "{own:?}");
    }
}

/// Opens what was sealed, and gives it to the programs that read it, as PID 1 would.
const APPLIED: &str = r#"
    mkdir creds
    for file in esp/EFI/Linux/vendor.efi.extra.d/*.cred; do
        ukikit cred decrypt --tpm2-device="$tpm" "$file" "creds/$(basename "$file" .cred)"
    done
    export CREDENTIALS_DIRECTORY=/io/creds
    systemd-sysusers 2>/dev/null
    systemd-tmpfiles --create /dev/null 2>/dev/null
    /usr/lib/systemd/systemd-network-generator
    getent passwd admin
    getent shadow admin | cut -d: -f2
    id --groups --name admin
    stat --format='%A %U %n' /home/admin /home/admin/.ssh/authorized_keys /etc/sudoers.d/90-admin /etc/app/token
    cat /etc/app/token /run/systemd/network/10-eno1.network
"#;

#[test]
fn full_what_a_first_boot_seals_is_what_systemd_then_does() {
    for suite in ["forky", "trixie"] {
        let Some(clean) = Clean::new(suite) else {
            return;
        };
        let scene = Scene::new();
        scene.uki("vendor", &Vendor::default());
        let tpm_state = TempDir::new().unwrap();
        let tpm = Swtpm::start_on(tpm_state.path());
        clean.package();
        let room = clean.place.path().join("room");
        run(
            "cp",
            [
                "-r",
                scene.path("esp").to_str().unwrap(),
                room.to_str().unwrap(),
            ],
        );
        std::fs::create_dir(room.join("seed")).unwrap();
        std::fs::write(room.join("seed/user-data"), USER_DATA).unwrap();
        std::fs::write(room.join("seed/network-config"), NETWORK).unwrap();
        clean.says("dpkg --install ukikit_*.deb");
        let device = tpm.device();
        clean.says(&format!(
            "ukikit first-boot --source=seed --esp=esp --machine=virtual --tpm2-device='{device}'"
        ));
        let applied = clean.says(&format!("tpm='{device}'; {APPLIED}"));
        assert_eq!(
            applied,
            "admin:x:1000:1000:The administrator:/home/admin:/bin/bash\n\
             $y$j9T$abcdefghijklmnopqrstuv$ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQ\n\
             admin adm\n\
             drwx------ admin /home/admin\n\
             -rw------- admin /home/admin/.ssh/authorized_keys\n\
             -r--r----- root /etc/sudoers.d/90-admin\n\
             -rw------- root /etc/app/token\n\
             s3cret\n\
             [Match]\nName=eno1\n\n[Network]\nDHCP=ipv4\n"
        );
        // The unit reads well to the systemd of each.
        assert_eq!(
            clean.says("systemd-analyze verify --man=no ukikit-first-boot.service 2>&1"),
            ""
        );
    }
}

const USER_DATA: &str = "#cloud-config
users:
- name: admin
  gecos: The administrator
  groups: [adm]
  sudo: ALL=(ALL) ALL
  passwd: $y$j9T$abcdefghijklmnopqrstuv$ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQ
  ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA admin]
write_files:
- {path: /etc/app/token, permissions: '0600', content: \"s3cret\\n\"}
";
const NETWORK: &str = "version: 2\nethernets:\n  eno1: {dhcp4: true}\n";
