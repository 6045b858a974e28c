//! An event log as firmware writes it ("TCG PC Client Platform Firmware Profile", section 10), with a SHA-256 bank alone.

/// One event: PCR, description, SHA-256 of what was measured.
pub(crate) type Event<'a> = (u32, &'a str, Vec<u8>);

/// The log of these events, each of type EV_IPL.
pub(crate) fn write<'a>(events: impl IntoIterator<Item = Event<'a>>) -> Vec<u8> {
    let mut log = [
        &[0; 4][..],
        &[3, 0, 0, 0],
        &[0; 20],
        &[33, 0, 0, 0],
        b"Spec ID Event03\0",
    ]
    .concat();
    log.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]);
    for (pcr, description, digest) in events {
        let text = description.encode_utf16().chain([0]);
        let text: Vec<u8> = text.flat_map(u16::to_le_bytes).collect();
        log.extend([pcr, 13, 1].map(u32::to_le_bytes).concat());
        log.extend([0x0b, 0]);
        log.extend(digest);
        log.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        log.extend(text);
    }
    log
}
