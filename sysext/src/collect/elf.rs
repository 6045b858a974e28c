//! What a program needs to start: its interpreter and libraries, from the ELF dynamic section or a `#!` line.

use object::read::elf::{Dyn, ElfFile, FileHeader, ProgramHeader};
use object::{Endianness, Object, elf};

use crate::tree::{join, parent};
use crate::{Content, Error, Kind, Tree};

/// Bytes of the largest program that is read; language runtimes come to a tenth.
const LARGEST: u64 = 1 << 30;
/// Where the loader looks without being told: the usual directories, and Debian's per machine.
const DIRECTORIES: [&str; 8] = [
    "usr/lib64",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/riscv64-linux-gnu",
    "usr/lib/i386-linux-gnu",
    "lib64",
    "lib",
];

/// What a file needs to run; nothing for what is no program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// Absolute path of the loader or script interpreter.
    pub(crate) interpreter: Option<String>,
    /// Names of libraries as the loader looks for them.
    pub(crate) libraries: Vec<String>,
    /// Directories to look in first, with `$ORIGIN`.
    run_path: Vec<String>,
    /// The machine that libraries must share.
    machine: Option<elf::Machine>,
}

impl Program {
    /// Reads a file of a tree.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when the file cannot be read.
    pub(crate) fn read(content: &Content) -> Result<Self, Error> {
        let mut magic = vec![0; usize::try_from(content.size().min(4)).unwrap_or_default()];
        content.open()?.fill(&mut magic)?;
        if content.size() > LARGEST || !(magic.starts_with(b"#!") || magic == elf::ELFMAG) {
            return Ok(Self::default());
        }
        let bytes = content.read(usize::try_from(content.size()).unwrap_or_default())?;
        Ok(Self::parse(&bytes))
    }

    /// Damaged programs need nothing that could be told.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        if let Some(line) = bytes.strip_prefix(b"#!") {
            return Self::of_script(line);
        }
        let wide = ElfFile::<elf::FileHeader64<Endianness>>::parse(bytes);
        if let Ok(file) = wide {
            return Self::of_elf(&file);
        }
        let narrow = ElfFile::<elf::FileHeader32<Endianness>>::parse(bytes);
        narrow.map_or_else(|_| Self::default(), |file| Self::of_elf(&file))
    }

    fn of_script(line: &[u8]) -> Self {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let words = String::from_utf8_lossy(line.get(..256).unwrap_or(line)).into_owned();
        Self {
            interpreter: words.split_ascii_whitespace().next().map(ToOwned::to_owned),
            ..Self::default()
        }
    }

    fn of_elf<'data, Elf: FileHeader<Endian = Endianness>>(file: &ElfFile<'data, Elf>) -> Self {
        let (endian, data) = (file.endian(), file.data());
        let header = file.elf_header();
        let mut program = Self {
            machine: Some(header.e_machine(endian)),
            ..Self::default()
        };
        for segment in file.elf_program_headers() {
            if let Ok(Some(interpreter)) = segment.interpreter(endian, data) {
                program.interpreter = text(interpreter);
            }
        }
        let sections = file.elf_section_table();
        let Ok(Some((dynamic, link))) = sections.dynamic(endian, data) else {
            return program;
        };
        let strings = sections.strings(endian, data, link).unwrap_or_default();
        for entry in dynamic {
            let string = || entry.string(endian, strings).ok().and_then(text);
            match entry.d_tag(endian) {
                elf::DT_NEEDED => program.libraries.extend(string()),
                elf::DT_RUNPATH | elf::DT_RPATH => {
                    let path = string().unwrap_or_default();
                    program
                        .run_path
                        .extend(path.split(':').map(ToOwned::to_owned));
                }
                _ => {}
            }
        }
        program
    }

    /// Where the loader looks for `library` on behalf of the program at `path`, in its order.
    pub(crate) fn candidates<'a>(
        &'a self,
        path: &'a [u8],
        library: &'a str,
    ) -> impl Iterator<Item = Vec<u8>> + 'a {
        let origin = String::from_utf8_lossy(parent(path)).into_owned();
        let own = self.run_path.iter().map(move |directory| {
            let directory = directory.replace("$ORIGIN", &format!("/{origin}"));
            directory
                .replace("${ORIGIN}", &origin)
                .trim_start_matches('/')
                .to_owned()
        });
        let all = own.chain(directories(self.machine).map(ToOwned::to_owned));
        all.map(move |directory| join(directory.as_bytes(), library.as_bytes()))
    }

    /// Whether a processor of another kind runs it. Firmware and what the kernel compiles are no programs.
    pub(crate) fn is_foreign(&self, machine: Option<elf::Machine>) -> bool {
        let is_program = self.interpreter.is_some() || !self.libraries.is_empty();
        is_program && machine.is_some() && self.machine.is_some() && self.machine != machine
    }
}

/// Where the loader of a machine looks. A 32-bit system's directory must not satisfy a 64-bit program.
pub(super) fn directories(machine: Option<elf::Machine>) -> impl Iterator<Item = &'static str> {
    let foreign = match machine {
        Some(elf::EM_X86_64) => ["aarch64", "riscv64", "i386"],
        Some(elf::EM_AARCH64) => ["x86_64", "riscv64", "i386"],
        Some(elf::EM_RISCV) => ["x86_64", "aarch64", "i386"],
        Some(elf::EM_386) => ["x86_64", "aarch64", "riscv64"],
        _ => ["-", "-", "-"],
    };
    DIRECTORIES
        .into_iter()
        .filter(move |directory| !foreign.iter().any(|machine| directory.contains(machine)))
}

/// The machine of an initrd: that of the first program in the place of PID 1 or of programs.
///
/// # Errors
///
/// [`Error::Read`] for a program that cannot be read.
pub(crate) fn machine_of(initrd: &Tree) -> Result<Option<elf::Machine>, Error> {
    for place in [&b"usr/lib/systemd/systemd"[..], b"usr/bin/", b"usr/sbin/"] {
        for (path, entry) in initrd.iter() {
            if let Kind::File(content) = &entry.kind
                && path.starts_with(place)
                && let Some(machine) = Program::read(content)?.machine
            {
                return Ok(Some(machine));
            }
        }
    }
    Ok(None)
}

/// What names the build of a program or library, if it says so.
///
/// # Errors
///
/// [`Error::Read`] for a file that cannot be read.
pub(super) fn build_id(content: &Content) -> Result<Option<Vec<u8>>, Error> {
    if content.size() > LARGEST {
        return Ok(None);
    }
    let bytes = content.read(usize::try_from(content.size()).unwrap_or_default())?;
    let file = object::File::parse(&*bytes).ok();
    let id = file.and_then(|file| file.build_id().ok().flatten().map(<[u8]>::to_vec));
    Ok(id)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_first_line_of_scripts() {
        let script = Program::parse(b"#! /bin/sh -e\necho\n");
        assert_eq!(script.interpreter.as_deref(), Some("/bin/sh"));
        assert_eq!(Program::parse(b"text"), Program::default());
        assert_eq!(Program::parse(b"\x7fELFdamaged"), Program::default());
    }

    #[test]
    fn reads_this_program() {
        let path = std::env::current_exe().unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        let program = Program::read(&Content::from_file(path, size)).unwrap();
        assert!(program.interpreter.unwrap().contains("/ld-linux"));
        assert!(
            program
                .libraries
                .iter()
                .any(|library| library == "libc.so.6")
        );
    }
}
