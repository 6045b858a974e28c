//! The text form of a credential: Base64 as systemd writes and reads it.
//!
//! Written in lines of 79 characters (69 inside a unit file), each ended by a newline. Read
//! leniently, as `unbase64mem` of systemd does: white space and NUL anywhere, the URL-safe alphabet
//! too; strictly in what matters: padding is mandatory, unused bits are zero, nothing follows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::FormatError;

/// How the bytes of a credential stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Base64 text, what `systemd-creds` reads and writes.
    #[default]
    Base64,
    /// The bytes themselves, what generators and PID 1 of systemd up to 261 read.
    Binary,
}

/// Characters in a line of a credential file.
pub const LINE: usize = 79;
/// Characters in a line of a unit file's `SetCredentialEncrypted=`.
pub const UNIT_LINE: usize = 69;

/// Base64 of `bytes` in lines of `width` characters, each ended by a newline.
pub(crate) fn write(bytes: &[u8], width: usize) -> String {
    let text = STANDARD.encode(bytes);
    let mut lines = String::with_capacity(text.len() + text.len() / width.max(1) + 1);
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % width == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines.push('\n');
    lines
}

/// The bytes that `text` stands for; offsets in errors count the characters of `text`.
pub(crate) fn read(text: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut compact = Vec::with_capacity(text.len());
    let mut padded = false;
    for (offset, &byte) in text.iter().enumerate() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | 0 => continue,
            b'=' => padded = true,
            _ if padded => {
                return Err(FormatError::new(offset, "text after the end of the Base64"));
            }
            _ => {}
        }
        compact.push(match byte {
            b'-' => b'+',
            b'_' => b'/',
            b'+' | b'/' | b'=' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => byte,
            _ => return Err(FormatError::new(offset, "not a Base64 character")),
        });
    }
    STANDARD
        .decode(&compact)
        .map_err(|_| FormatError::new(text.len(), "the Base64 is cut off or badly padded"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_break_after_79_characters() {
        let text = write(&[0; 60], LINE);
        assert_eq!(text, format!("{}\nA\n", "A".repeat(79)));
        assert_eq!(write(b"", LINE), "\n");
    }

    #[test]
    fn reads_what_systemd_reads() {
        for (text, bytes) in [
            ("Zm9v", "foo"),
            ("Zm9v\n", "foo"),
            (" Z m\t9\r\nv\0", "foo"),
            ("Zm8=", "fo"),
            ("", ""),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(bytes.into()), "{text:?}");
        }
        assert_eq!(read(b"-_-_"), read(b"+/+/"));
    }

    #[test]
    fn refuses_what_systemd_refuses() {
        for (text, offset, what) in [
            ("Zm8", 3, "the Base64 is cut off or badly padded"),
            ("Zm9=", 4, "the Base64 is cut off or badly padded"),
            ("Zm8=Zm8=", 4, "text after the end of the Base64"),
            ("Zm*v", 2, "not a Base64 character"),
            ("=", 1, "the Base64 is cut off or badly padded"),
        ] {
            assert_eq!(
                read(text.as_bytes()),
                Err(FormatError::new(offset, what)),
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn out_and_back(bytes: Vec<u8>, width in 1usize..100) {
            prop_assert_eq!(read(write(&bytes, width).as_bytes()), Ok(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text: Vec<u8>) {
            let _ = read(&text);
        }
    }
}
