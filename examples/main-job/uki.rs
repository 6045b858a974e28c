//! A stand-in for a vendor's UKI: the sections that tools read, in a PE file that no firmware would start.

use anyhow::Result;
use der::pem::{LineEnding, encode_string};
use ukikit_sysext::Certificate;

const OS_RELEASE: &[u8] = b"ID=vendor\nVERSION_ID=1\nPRETTY_NAME=\"A vendor's image\"\n";

/// A UKI for x86-64 whose initrd trusts `certificate`.
pub(crate) fn build(certificate: &Certificate) -> Result<Vec<u8>> {
    pe_file(&[
        (".osrel", OS_RELEASE),
        (".cmdline", b"quiet"),
        (".initrd", &initrd(certificate)?),
        (".linux", b"a kernel"),
    ])
}

fn initrd(certificate: &Certificate) -> Result<Vec<u8>> {
    let pem = encode_string("CERTIFICATE", LineEnding::LF, certificate.as_der())?;
    Ok(cpio(&[
        ("etc", DIRECTORY, b""),
        ("etc/initrd-release", FILE, OS_RELEASE),
        ("etc/os-release", SYMLINK, b"initrd-release"),
        ("usr", DIRECTORY, b""),
        // What an initrd that merges extensions and uses a TPM has; their content is not looked at.
        ("usr/bin", DIRECTORY, b""),
        ("usr/bin/systemd-sysext", FILE, b""),
        ("usr/lib", DIRECTORY, b""),
        ("usr/lib/libcryptsetup.so.12", FILE, b""),
        ("usr/lib/libtss2-esys.so.0", FILE, b""),
        ("usr/lib/libtss2-mu.so.0", FILE, b""),
        ("usr/lib/verity.d", DIRECTORY, b""),
        ("usr/lib/verity.d/signer.crt", FILE, pem.as_bytes()),
    ]))
}

const DIRECTORY: usize = 0o040_755;
const FILE: usize = 0o100_644;
const SYMLINK: usize = 0o120_777;

/// A newc archive of these paths, modes and contents (cpio(5), "New ASCII Format").
fn cpio(entries: &[(&str, usize, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let end = ("TRAILER!!!", 0, &b""[..]);
    for (inode, (path, mode, content)) in entries.iter().chain([&end]).enumerate() {
        archive.extend(b"070701");
        // inode, mode, uid, gid, links, mtime, size, four device numbers, size of the name, checksum
        let (name_size, size) = (path.len() + 1, content.len());
        for field in [inode, *mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            archive.extend(format!("{field:08X}").bytes());
        }
        archive.extend(path.bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

const PE_OFFSET: u8 = 64;
const OPTIONAL_HEADER_SIZE: u8 = 112;
const SECTION_HEADER_SIZE: usize = 40;

/// Headers, section table, and the sections one behind the other ("PE Format").
fn pe_file(sections: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut file = b"MZ".to_vec();
    file.resize(60, 0);
    file.extend([PE_OFFSET, 0, 0, 0]);
    file.extend(b"PE\0\0\x64\x86"); // x86-64
    file.extend(u16::try_from(sections.len())?.to_le_bytes());
    file.extend([0; 12]);
    file.extend([OPTIONAL_HEADER_SIZE, 0, 0, 0]);
    file.extend([0x0B, 0x02]); // PE32+
    file.resize(file.len() + usize::from(OPTIONAL_HEADER_SIZE) - 2, 0);

    let mut offset = u32::try_from(file.len() + sections.len() * SECTION_HEADER_SIZE)?;
    for (name, content) in sections {
        let size = u32::try_from(content.len())?;
        file.extend(name.bytes().chain([0; 8]).take(8));
        // size and address in memory, size and offset in the file
        for field in [size, 0, size, offset] {
            file.extend(field.to_le_bytes());
        }
        file.extend([0; 16]);
        offset += size;
    }
    file.extend(sections.iter().flat_map(|(_, content)| *content));
    Ok(file)
}
