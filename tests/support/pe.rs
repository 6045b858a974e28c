//! A PE addon that firmware loads: headers and sections, no code ("PE Format").

/// For x86-64, with these sections; each begins on a page in memory.
pub(crate) fn addon(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const ALIGNMENT: usize = 512;
    const PAGE: usize = 4096;
    const HEADERS: usize = 1024;
    let word = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    let pages: usize = sections
        .iter()
        .map(|(_, data)| data.len().div_ceil(PAGE))
        .sum();

    let mut file = b"MZ".to_vec();
    file.resize(60, 0);
    file.extend(word(64));
    file.extend(b"PE\0\0\x64\x86");
    file.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    file.extend([0; 12]);
    file.extend([240, 0, 0x22, 0]); // size of the optional header; executable, large addresses
    let optional = file.len();
    file.extend([0x0b, 0x02]);
    file.resize(optional + 32, 0);
    file.extend([word(PAGE), word(ALIGNMENT)].concat());
    file.resize(optional + 56, 0);
    file.extend(word((1 + pages) * PAGE));
    file.extend(word(HEADERS));
    file.extend([0; 4]);
    file.extend([10, 0, 0, 1]); // an EFI application
    file.resize(optional + 108, 0);
    file.extend(word(16)); // data directories
    file.resize(optional + 240, 0);

    let (mut memory, mut offset) = (PAGE, HEADERS);
    for (name, data) in sections {
        let padded = data.len().next_multiple_of(ALIGNMENT);
        file.extend(name.bytes().chain([0; 8]).take(8));
        file.extend([word(data.len()), word(memory), word(padded), word(offset)].concat());
        file.extend([0; 12]);
        file.extend(word(0x4000_0040)); // readable data
        memory += data.len().div_ceil(PAGE) * PAGE;
        offset += padded;
    }
    assert!(file.len() <= HEADERS, "too many sections");
    file.resize(HEADERS, 0);
    for (_, data) in sections {
        file.extend(*data);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    }
    file
}
