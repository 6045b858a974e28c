//! The passphrase of a private key: from a file, or typed without showing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use anyhow::Result;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::file;

/// A passphrase is a line; more is a mistake.
const LENGTH_MAX: usize = 4096;

/// The first line of a file.
pub(super) fn of_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut passphrase = file::read(path, LENGTH_MAX)?;
    if let Some(end) = passphrase.iter().position(|&byte| byte == b'\n') {
        passphrase.truncate(end);
    }
    Ok(passphrase)
}

/// A line typed on the terminal. An error when there is none.
pub(super) fn ask(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let shown = tcgetattr(&terminal)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    terminal.write_all(prompt.as_bytes())?;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let line = read_line(&terminal);
    tcsetattr(&terminal, OptionalActions::Flush, &shown)?;
    terminal.write_all(b"\n")?;
    line
}

fn read_line(terminal: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    // As large as a terminal's line can be, so that the buffer never moves and leaves a copy.
    let mut line = Zeroizing::new(Vec::with_capacity(LENGTH_MAX));
    BufReader::with_capacity(1, terminal).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}
