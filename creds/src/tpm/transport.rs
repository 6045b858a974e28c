//! `Transport`: bytes to a TPM and back. The kernel's device, or a swtpm's command socket.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::Error;

/// Longest command and answer (TPM 2.0 Library: TPM_MAX_COMMAND_SIZE of common chips).
const MESSAGE_MAX: usize = 4096;
const HEADER: usize = 10;
const RESOURCE_MANAGER: &str = "/dev/tpmrm0";
/// Making an RSA primary key takes slow chips over a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// Sends a whole TPM command and returns the whole answer.
pub trait Transport {
    /// One command, one answer, both with their headers.
    ///
    /// # Errors
    ///
    /// Whatever the way to the TPM reports; the TPM's own refusals are answers.
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// A kernel device, `/dev/tpmrm0` as a rule.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// Opens the device at `path`.
    ///
    /// # Errors
    ///
    /// As the kernel reports.
    pub fn open(path: &str) -> io::Result<Self> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map(Self)
    }
}

impl Transport for Device {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        // The kernel takes a command in one write and gives the answer in one read.
        if self.0.write(command)? != command.len() {
            return Err(io::Error::other(
                "the kernel took only a part of the command",
            ));
        }
        let mut answer = vec![0; MESSAGE_MAX];
        let size = self.0.read(&mut answer)?;
        answer.truncate(size);
        Ok(answer)
    }
}

/// The command channel of a swtpm, over TCP or a unix socket.
#[derive(Debug)]
pub struct Socket<S>(S);

impl Socket<TcpStream> {
    /// Connects to a swtpm started with `--server type=tcp`.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn tcp(host: &str, port: u16) -> io::Result<Self> {
        let address = (host, port)
            .to_socket_addrs()?
            .next()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }
}

impl Socket<UnixStream> {
    /// Connects to a swtpm started with `--server type=unixio`.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn unix(path: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }
}

impl<S: Read + Write> Transport for Socket<S> {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut answer = vec![0; HEADER];
        self.0.read_exact(&mut answer)?;
        let size = match answer.as_slice() {
            [_, _, a, b, c, d, ..] => {
                usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX)
            }
            _ => 0,
        };
        if !(HEADER..=MESSAGE_MAX).contains(&size) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the answer claims {size} bytes"),
            ));
        }
        answer.resize(size, 0);
        if let Some(rest) = answer.get_mut(HEADER..) {
            self.0.read_exact(rest)?;
        }
        Ok(answer)
    }
}

/// Opens what `--tpm2-device=` names: a device path, `device:PATH`, `swtpm:host=HOST,port=PORT` or `swtpm:path=SOCKET`;
/// the kernel's first TPM for `auto` and the empty text.
///
/// # Errors
///
/// [`Error::Device`] for another form, [`Error::OpenDevice`] when it cannot be opened.
pub fn open(device: &str) -> Result<Box<dyn Transport>, Error> {
    let device = match device {
        "" | "auto" => RESOURCE_MANAGER,
        device => device,
    };
    let refuse = |reason| Error::Device {
        given: device.to_owned(),
        reason,
    };
    let opened: io::Result<Box<dyn Transport>> = match device.split_once(':') {
        None if device.starts_with('/') => Device::open(device).map(boxed),
        Some(("device", path)) => Device::open(path).map(boxed),
        Some(("swtpm", options)) => match Swtpm::parse(options)
            .ok_or_else(|| refuse("after swtpm: comes host=HOST,port=PORT or path=SOCKET"))?
        {
            Swtpm::Tcp(host, port) => Socket::tcp(host, port).map(boxed),
            Swtpm::Unix(path) => Socket::unix(path).map(boxed),
        },
        _ => {
            return Err(refuse(
                "it is neither a path nor device:PATH nor swtpm:OPTIONS",
            ));
        }
    };
    opened.map_err(|source| Error::OpenDevice {
        device: device.to_owned(),
        source,
    })
}

fn boxed<T: Transport + 'static>(transport: T) -> Box<dyn Transport> {
    Box::new(transport)
}

/// What follows `swtpm:`.
#[derive(Debug, PartialEq, Eq)]
enum Swtpm<'a> {
    Tcp(&'a str, u16),
    Unix(&'a str),
}

impl<'a> Swtpm<'a> {
    /// The port defaults to swtpm's own, 2321, and the host to this machine.
    fn parse(options: &'a str) -> Option<Self> {
        let (mut host, mut port) = ("127.0.0.1", 2321);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=')? {
                ("path", path) => return Some(Self::Unix(path)),
                ("host", name) => host = name,
                ("port", number) => port = number.parse().ok()?,
                _ => return None,
            }
        }
        Some(Self::Tcp(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_words_are_read() {
        assert_eq!(
            Swtpm::parse("host=127.0.0.1,port=2500"),
            Some(Swtpm::Tcp("127.0.0.1", 2500))
        );
        assert_eq!(
            Swtpm::parse("port=2500"),
            Some(Swtpm::Tcp("127.0.0.1", 2500))
        );
        assert_eq!(
            Swtpm::parse("path=/run/tpm.sock"),
            Some(Swtpm::Unix("/run/tpm.sock"))
        );
        assert_eq!(Swtpm::parse("port=x"), None);
        assert_eq!(Swtpm::parse("conf=x"), None);
    }

    #[test]
    fn other_words_are_refused() {
        for device in ["tpmrm0", "tabrmd:", "mssim:host=localhost"] {
            assert!(
                matches!(open(device), Err(Error::Device { .. })),
                "{device}"
            );
        }
        assert!(matches!(
            open("/nonexistent/tpm"),
            Err(Error::OpenDevice { .. })
        ));
    }
}
