//! Servers of disks on this machine's loopback, which the guest reaches through QEMU. They are programs of the root with
//! the features, and end with their values.

use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::machine::Process;
use crate::support::systemd::Room;

/// What the root says of its session: the name of the target, its state, and who proved themselves.
pub(super) const SESSION: &str = "iqn.2026-01.example.lab:rootdisk LOGGED_IN labuser targetuser\n";

/// A server, and the credential that leads to it.
pub(super) struct Server {
    pub(super) credential: String,
    _process: Process,
}

impl Server {
    pub(super) fn port(&self) -> String {
        let mut lines = self.credential.lines();
        let port = lines.find_map(|line| line.strip_prefix("port="));
        port.unwrap().to_owned()
    }
}

/// tgtd with CHAP in both directions.
const TGTD: &str = r#"
    port=$1
    mkdir -p /run/tgtd
    adm() { tgtadm --lld iscsi "$@"; }
    (
        until adm --op show --mode sys >/dev/null 2>&1; do sleep 0.2; done
        adm --op new --mode target --tid 1 -T iqn.2026-01.example.lab:rootdisk
        adm --op new --mode logicalunit --tid 1 --lun 1 -b /io/disk
        adm --op bind --mode target --tid 1 -I ALL
        adm --op new --mode account --user labuser --password Very-Secret-12
        adm --op bind --mode account --tid 1 --user labuser
        adm --op new --mode account --user targetuser --password Mutual-Secret1
        adm --op bind --mode account --tid 1 --user targetuser --outgoing
        touch /io/ready
    ) &
    exec setpriv --pdeathsig KILL tgtd -f --iscsi "portal=127.0.0.1:$port"
"#;

const NBDKIT: &str = r#"
    port=$1
    ( until [ -s /io/pid ]; do sleep 0.1; done; touch /io/ready ) &
    exec setpriv --pdeathsig KILL nbdkit --foreground --ipaddr=127.0.0.1 --port="$port" --pidfile=/io/pid file /io/disk
"#;

pub(super) fn iscsi(room: &Room, disk: &Path) -> Server {
    let port = free_port();
    let credential = format!(
        "initiator=iqn.2026-01.example.lab:client1\ntarget=iqn.2026-01.example.lab:rootdisk\naddress=10.0.2.2\nport={port}\n\
         user=labuser\npassword=Very-Secret-12\nuser_in=targetuser\npassword_in=Mutual-Secret1\n"
    );
    start(room, disk, TGTD, port, credential)
}

pub(super) fn nbd(room: &Room, disk: &Path) -> Server {
    let port = free_port();
    let credential = format!("host=10.0.2.2\nport={port}\n");
    start(room, disk, NBDKIT, port, credential)
}

fn start(room: &Room, disk: &Path, script: &str, port: u16, credential: String) -> Server {
    // Within the room, where the server looks.
    std::fs::rename(disk, room.path("disk")).unwrap();
    let mut command = room.command("sh");
    command.args(["-euc", script, "-", &port.to_string()]);
    let child: Child = command.spawn().unwrap();
    let process = Process(child);
    let patience = Instant::now() + Duration::from_secs(60);
    while !room.path("ready").exists() {
        assert!(Instant::now() < patience, "the server does not answer");
        sleep(Duration::from_millis(100));
    }
    Server {
        credential,
        _process: process,
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
