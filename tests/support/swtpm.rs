//! A software TPM for one test: started on a saved state, spoken to in raw commands, gone with the value.
//!
//! There is no resource manager behind it, so what a client leaves behind stays and can be counted.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use super::{attended, run, vector};

/// A running `swtpm`; stopped when dropped, also by a failing test.
pub(crate) struct Swtpm {
    process: Child,
    address: Address,
    _place: TempDir,
}

enum Address {
    Tcp(u16),
    Unix(PathBuf),
}

/// One thing extended into one PCR, as `tpm/pcr-profiles.json` lists them.
#[derive(Deserialize)]
struct Extension {
    pcr: u32,
    bank: String,
    digest: String,
}

impl Swtpm {
    /// Starts on a copy of the state `a`, `b` or `rsa` of the vectors, listening on a free TCP port.
    pub(crate) fn start(state: &str) -> Self {
        let place = unpacked(state);
        let (process, port) = start_tcp(place.path());
        Self {
            process,
            address: Address::Tcp(port),
            _place: place,
        }
    }

    /// The same on a unix socket.
    pub(crate) fn start_unix(state: &str) -> Self {
        let place = unpacked(state);
        let socket = place.path().join("socket");
        let server = format!("type=unixio,path={}", socket.display());
        let control = format!("type=unixio,path={}.ctrl", socket.display());
        let process = spawn(place.path(), &server, &control);
        wait_for(|| socket.exists());
        Self {
            process,
            address: Address::Unix(socket),
            _place: place,
        }
    }

    /// Starts on a state kept elsewhere and changes it, for example that of a virtual machine.
    pub(crate) fn start_on(state: &Path) -> Self {
        let (process, port) = start_tcp(state);
        Self {
            process,
            address: Address::Tcp(port),
            _place: TempDir::new().unwrap(),
        }
    }

    /// The value `--tpm2-device=` takes.
    pub(crate) fn device(&self) -> String {
        match &self.address {
            Address::Tcp(port) => format!("swtpm:host=127.0.0.1,port={port}"),
            Address::Unix(path) => format!("swtpm:path={}", path.display()),
        }
    }

    /// Extends what the profile of this name in `tpm/pcr-profiles.json` lists.
    pub(crate) fn extend_profile(&self, profile: &str) {
        let file = fs::read(vector("creds/tpm/pcr-profiles.json")).unwrap();
        let mut profiles: BTreeMap<String, Vec<Extension>> = serde_json::from_slice(&file).unwrap();
        for extension in profiles.remove(profile).unwrap() {
            self.extend(
                extension.pcr,
                &extension.bank,
                &hex::decode(extension.digest).unwrap(),
            );
        }
    }

    /// TPM2_PCR_Extend of one bank, under the empty password.
    pub(crate) fn extend(&self, pcr: u32, bank: &str, digest: &[u8]) {
        let algorithm: u16 = match bank {
            "sha1" => 0x0004,
            "sha256" => 0x000b,
            "sha384" => 0x000c,
            "sha512" => 0x000d,
            _ => panic!("bank {bank}"),
        };
        let mut command = pcr.to_be_bytes().to_vec();
        command.extend(9_u32.to_be_bytes());
        command.extend([0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        command.extend(1_u32.to_be_bytes());
        command.extend(algorithm.to_be_bytes());
        command.extend(digest);
        self.command(0x8002, 0x182, &command);
    }

    /// The handles of transient objects and of sessions, loaded and saved: empty when every client tidied up.
    pub(crate) fn leftovers(&self) -> Vec<u32> {
        const TRANSIENT: u32 = 0x8000_0000;
        const LOADED_SESSION: u32 = 0x0200_0000;
        const SAVED_SESSION: u32 = 0x0300_0000;
        [TRANSIENT, LOADED_SESSION, SAVED_SESSION]
            .into_iter()
            .flat_map(|kind| self.handles(kind))
            .collect()
    }

    /// Fails when `client`, the only one since the last flush, left anything behind.
    pub(crate) fn assert_tidy(&self, client: &dyn Display) {
        let leftovers = self.leftovers();
        assert!(
            leftovers.is_empty(),
            "{client}: left in the TPM: {leftovers:x?}"
        );
    }

    /// TPM2_FlushContext of everything [`Self::leftovers`] finds: the real systemd leaves some after a failure.
    pub(crate) fn flush(&self) {
        for handle in self.leftovers() {
            self.command(0x8001, 0x165, &handle.to_be_bytes());
        }
    }

    /// TPM2_GetCapability(handles) from `first` on.
    fn handles(&self, first: u32) -> Vec<u32> {
        let parameters: Vec<u8> = [1, first, 64]
            .into_iter()
            .flat_map(u32::to_be_bytes)
            .collect();
        let answer = self.command(0x8001, 0x17a, &parameters);
        // moreData, the capability, the count; then the handles.
        answer[9..]
            .chunks_exact(4)
            .map(|handle| u32::from_be_bytes(handle.try_into().unwrap()))
            .collect()
    }

    /// As firmware does it on its owner's wish (TPM2_Clear): nothing that was sealed before opens any more.
    pub(crate) fn clear(&self) {
        let platform = [0x40, 0, 0, 0x0c];
        let no_password = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        self.command(0x8002, 0x126, &[&platform[..], &no_password].concat());
    }

    /// Sends one command and returns what follows the header of the answer.
    fn command(&self, tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
        let mut frame = tag.to_be_bytes().to_vec();
        frame.extend(u32::try_from(body.len() + 10).unwrap().to_be_bytes());
        frame.extend(code.to_be_bytes());
        frame.extend(body);
        let answer = match &self.address {
            Address::Tcp(port) => exchange(connect(*port), &frame),
            Address::Unix(path) => exchange(UnixStream::connect(path).unwrap(), &frame),
        };
        assert_eq!(answer[6..10], [0; 4], "TPM command {code:#x}");
        answer[10..].to_vec()
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory with the saved state of this name.
pub(crate) fn unpacked(state: &str) -> TempDir {
    let place = TempDir::new().unwrap();
    let archive = vector(&format!("creds/tpm/{state}.tar"));
    run(
        "tar",
        [
            "-xf",
            archive.to_str().unwrap(),
            "-C",
            place.path().to_str().unwrap(),
        ],
    );
    place
}

/// Two neighbouring free ports: the client libraries expect the control channel behind the data channel.
/// Somebody may take one before `swtpm` does; then it ends at once and the next pair is tried.
fn start_tcp(state: &Path) -> (Child, u16) {
    for _ in 0..20 {
        let Some(port) = free_port_pair() else {
            continue;
        };
        let mut process = spawn(
            state,
            &format!("type=tcp,port={port}"),
            &format!("type=tcp,port={}", port + 1),
        );
        // Only the control port is knocked at: the data port serves one client, which this would be.
        wait_for(|| {
            TcpStream::connect(("127.0.0.1", port + 1)).is_ok()
                || process.try_wait().unwrap().is_some()
        });
        if process.try_wait().unwrap().is_none() {
            return (process, port);
        }
    }
    panic!("swtpm does not start");
}

/// The data port opens a moment after the control port, which is all that was waited for.
fn connect(port: u16) -> TcpStream {
    let mut stream = None;
    wait_for(|| {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    });
    stream.unwrap()
}

fn free_port_pair() -> Option<u16> {
    let data = TcpListener::bind("127.0.0.1:0").ok()?;
    let port = data.local_addr().ok()?.port();
    TcpListener::bind(("127.0.0.1", port.checked_add(1)?)).ok()?;
    Some(port)
}

fn spawn(state: &Path, server: &str, control: &str) -> Child {
    let state = format!("dir={}", state.display());
    attended("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--tpmstate", &state, "--server", server, "--ctrl", control])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run swtpm: {error}"))
}

fn wait_for(mut ready: impl FnMut() -> bool) {
    for _ in 0..200 {
        if ready() {
            return;
        }
        sleep(Duration::from_millis(20));
    }
    panic!("swtpm does not listen");
}

/// Writes a command and reads one whole answer, whose size stands in its bytes 2 to 5.
fn exchange(mut stream: impl Read + Write, command: &[u8]) -> Vec<u8> {
    stream.write_all(command).unwrap();
    let mut answer = vec![0; 10];
    stream.read_exact(&mut answer).unwrap();
    let size = u32::from_be_bytes(answer[2..6].try_into().unwrap());
    answer.resize(usize::try_from(size).unwrap(), 0);
    stream.read_exact(&mut answer[10..]).unwrap();
    answer
}
