//! The passphrase of a private key: from a file, or typed without showing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Result, anyhow};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
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

/// A line typed on the terminal; without one, `no_terminal`.
pub(in crate::command) fn ask(
    prompt: &str,
    no_terminal: anyhow::Error,
) -> Result<Zeroizing<Vec<u8>>> {
    typed(prompt).map_err(|error| match error.kind() {
        // Where the signal is ignored, for instance behind `nohup`.
        io::ErrorKind::Interrupted => anyhow!("interrupted"),
        _ => no_terminal,
    })
}

fn typed(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let shown = tcgetattr(&terminal)?;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden(&shown))?;
    let line = terminal
        .write_all(prompt.as_bytes())
        .and_then(|()| read_line(&terminal));
    tcsetattr(&terminal, OptionalActions::Flush, &shown)?;
    terminal.write_all(b"\n")?;
    let mut line = line?;
    match line.pop() {
        Some(b'\n') => {}
        Some(last) if last == shown.special_codes[SpecialCodeIndex::VINTR] => {
            kill_process(getpid(), Signal::INT)?;
            return Err(io::ErrorKind::Interrupted.into());
        }
        last => line.extend(last),
    }
    Ok(line)
}

/// Nothing typed shows, and the key that interrupts ends the line: as a signal it would leave the terminal like this.
fn hidden(shown: &Termios) -> Termios {
    let mut hidden = shown.clone();
    hidden
        .local_modes
        .remove(LocalModes::ECHO | LocalModes::ISIG);
    hidden.special_codes[SpecialCodeIndex::VEOL] = shown.special_codes[SpecialCodeIndex::VINTR];
    hidden
}

/// With what ended it.
fn read_line(mut terminal: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    // As large as a terminal's line can be, so that the buffer never moves and leaves a copy.
    let mut line = Zeroizing::new(vec![0; LENGTH_MAX]);
    let length = terminal.read(&mut line)?;
    line.truncate(length);
    Ok(line)
}
