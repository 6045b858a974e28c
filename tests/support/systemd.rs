//! The real systemd: programs of a Debian root, run in a private mount namespace with an identity of our choice.
//!
//! `tests/run` names the roots in `UKIKIT_ROOT_262` and `UKIKIT_ROOT_257`. Needs to be root.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{setting, skip, vector, vector_json};

/// A root directory with a systemd in it.
pub(crate) struct Systemd {
    root: PathBuf,
}

/// A directory that is `/io`, and the working directory, of programs run in a root; and who the machine is.
pub(crate) struct Room {
    root: PathBuf,
    place: TempDir,
}

impl Systemd {
    /// The root with systemd `version`; `None`, said aloud, when there is none.
    pub(crate) fn find(version: u32) -> Option<Self> {
        let Some(root) = setting(&format!("UKIKIT_ROOT_{version}")) else {
            skip(&format!("systemd {version}: no root, tests/run makes one"));
            return None;
        };
        Some(Self { root: root.into() })
    }

    /// The root with systemd `version` and the packages of the features that recipes take; `None`, said aloud, when there is none.
    pub(crate) fn with_features(version: u32) -> Option<Self> {
        let Some(root) = setting(&format!("UKIKIT_ROOT_FEATURES_{version}")) else {
            skip("features: no root, tests/run --full makes one");
            return None;
        };
        Some(Self { root: root.into() })
    }

    /// The one in this root.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A room without an identity of its own.
    pub(crate) fn room(&self) -> Room {
        let place = TempDir::new().unwrap();
        // Programs that drop their privileges must still get in.
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        Room {
            root: self.root.clone(),
            place,
        }
    }

    /// A room on the machine `m1` or `m2` of the credential vectors: its ID, host secret and users.
    pub(crate) fn machine(&self, name: &str) -> Room {
        let room = self.room();
        let machine = &vector_json("creds/manifest.json")["machines"][name];
        room.write(
            "machine-id",
            format!("{}\n", machine["machine_id"].as_str().unwrap()).as_bytes(),
        );
        let secret = vector("creds").join(machine["host_key"].as_str().unwrap());
        room.write("credential.secret", &fs::read(secret).unwrap());
        fs::set_permissions(
            room.path("credential.secret"),
            Permissions::from_mode(0o400),
        )
        .unwrap();
        let mut users = fs::read_to_string(self.root.join("etc/passwd")).unwrap();
        for (uid, user) in machine["users"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(uid, _)| *uid != "0")
        {
            users += &format!(
                "{}:x:{uid}:{uid}::/:/usr/sbin/nologin\n",
                user.as_str().unwrap()
            );
        }
        room.write("passwd", users.as_bytes());
        room
    }
}

impl Room {
    /// A file of the room, as seen from outside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The room itself.
    pub(crate) fn directory(&self) -> &Path {
        self.place.path()
    }

    /// Puts a file into the room.
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Reads a file of the room.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs a program of the root in this room.
    pub(crate) fn run<A: AsRef<str>>(&self, program: &str, arguments: &[A]) -> Output {
        self.command(program)
            .args(arguments.iter().map(AsRef::as_ref))
            .output()
            .unwrap()
    }

    /// The same, before it runs.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = with_mounts(ENTER);
        command.arg(&self.root).arg(self.place.path()).arg(program);
        command.env("SYSTEMD_CREDENTIAL_SECRET", "/io/credential.secret");
        command
    }
}

/// A shell with this script, whose arguments are still to be given and whose mounts nobody else sees.
pub(crate) fn with_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.args(["sh", "-euc", script, "-"]);
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// Enters root `$1` with the room `$2` on /io. The root is mounted on itself: systemd-dissect wants "/" to be a
/// mount point. An identity in the room hides the root's own.
const ENTER: &str = r#"
    root=$1 room=$2
    shift 2
    mount --bind "$root" "$root"
    for dir in dev proc sys; do mount --rbind "/$dir" "$root/$dir"; done
    mount -t tmpfs tmpfs "$root/run"
    mount --bind "$room" "$root/io"
    for file in machine-id passwd; do
        if [ -e "$room/$file" ]; then mount --bind "$room/$file" "$root/etc/$file"; fi
    done
    exec chroot "$root" sh -c 'cd /io && exec "$@"' - "$@"
"#;
