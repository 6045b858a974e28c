//! Small UKIs and initrds, made here so that each test sees what it is about.

/// A PE32+ file for x86-64 with these sections and nothing else.
pub(crate) fn pe_file(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..2].copy_from_slice(b"MZ");
    file[60] = 64;
    file.extend(b"PE\0\0\x64\x86");
    file.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    file.extend([0; 12]);
    file.extend([112, 0, 0, 0, 0x0b, 0x02]);
    file.extend([0; 110]);
    let mut start = u32::try_from(file.len() + 40 * sections.len()).unwrap();
    for (name, data) in sections {
        let size = u32::try_from(data.len()).unwrap();
        file.extend(name.bytes().chain([0; 8]).take(8));
        for field in [size, 0, size, start] {
            file.extend(field.to_le_bytes());
        }
        file.extend([0; 16]);
        start += size;
    }
    file.extend(sections.iter().flat_map(|(_, data)| *data));
    file
}

/// A cpio archive of regular files; the directories above them come first.
pub(crate) fn initrd(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut made = Vec::new();
    for (path, content) in files {
        for (end, _) in path.match_indices('/') {
            let directory = &path[..end];
            if !made.contains(&directory) {
                made.push(directory);
                member(&mut archive, directory, 0o040_755, b"");
            }
        }
        member(&mut archive, path, 0o100_644, content);
    }
    member(&mut archive, "TRAILER!!!", 0, b"");
    archive
}

fn member(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let (size, name_size) = (content.len(), name.len() + 1);
    archive.extend(b"070701");
    for field in [0, mode as usize, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
