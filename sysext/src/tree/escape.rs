//! Bytes of a foreign name as text that does a terminal no harm.

use std::fmt::Write;

/// `bytes` as text: what is printable UTF-8 stays, a backslash becomes `\\`, and each byte of what is left -
/// control and formatting characters, bytes that are not UTF-8 - becomes `\xNN`. Nothing is lost: two names
/// that differ are shown differently.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' => text.push_str("\\\\"),
                printable if is_printable(printable) => text.push(printable),
                other => push_hex(other.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
            }
        }
        push_hex(chunk.invalid(), &mut text);
    }
    text
}

/// Whether a character shows as itself. The standard library's list serves: it knows control characters, those
/// that turn the direction of text, and spaces that look like another one.
fn is_printable(char: char) -> bool {
    matches!(char, '\'' | '"') || char.escape_debug().len() == 1
}

fn push_hex(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shows_what_is_harmless_and_spells_out_the_rest() {
        for (bytes, expected) in [
            (
                b"usr/bin/caf\xc3\xa9 'a' \"b\"".as_slice(),
                "usr/bin/café 'a' \"b\"",
            ),
            (b"a\\x41", "a\\\\x41"),
            (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            (b"line\nline\ttab\x7f", "line\\x0aline\\x09tab\\x7f"),
            // C1 control, right-to-left override, zero width space.
            ("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m"),
            (
                "a\u{202e}b\u{200b}".as_bytes(),
                "a\\xe2\\x80\\xaeb\\xe2\\x80\\x8b",
            ),
            (b"latin1-\xe4\xff", "latin1-\\xe4\\xff"),
        ] {
            assert_eq!(escape(bytes), expected);
        }
    }

    proptest! {
        // No control character comes out, and what went in can be had again.
        #[test]
        fn any_bytes_are_shown_and_kept(bytes: Vec<u8>) {
            let shown = escape(&bytes);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(read(&shown), bytes);
        }
    }

    fn read(shown: &str) -> Vec<u8> {
        let (mut bytes, mut rest) = (Vec::new(), shown.as_bytes());
        while let Some((&first, behind)) = rest.split_first() {
            rest = match (first, behind) {
                (b'\\', [b'\\', behind @ ..]) => {
                    bytes.push(b'\\');
                    behind
                }
                (b'\\', [b'x', high, low, behind @ ..]) => {
                    bytes.extend(hex::decode([*high, *low]).unwrap());
                    behind
                }
                _ => {
                    bytes.push(first);
                    behind
                }
            };
        }
        bytes
    }
}
