//! The shell-like syntax of release files, read exactly as systemd's `env-file.c` reads it.

use std::iter::Peekable;
use std::str::Chars;

/// What a backslash takes the meaning from inside double quotes.
const ESCAPED: [char; 4] = ['"', '\\', '`', '$'];

/// All assignments, in order. Never fails: what is no assignment is passed over.
pub(super) fn parse(text: &str) -> Vec<(String, String)> {
    let mut assignments = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            '#' | ';' => skip_comment(&mut rest),
            space if space.is_ascii_whitespace() => {}
            other => {
                if let Some(key) = key(other, &mut rest) {
                    assignments.push((key, value(&mut rest)));
                }
            }
        }
    }
    assignments
}

fn skip_comment(rest: &mut Peekable<Chars<'_>>) {
    while let Some(next) = rest.next() {
        match next {
            '\\' => drop(rest.next()),
            '\n' | '\r' => return,
            _ => {}
        }
    }
}

/// The text before `=`, `None` when the line has none.
fn key(first: char, rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut key = String::from(first);
    for next in rest.by_ref() {
        match next {
            '=' => return Some(key.trim_ascii_end().to_owned()),
            '\n' | '\r' => return None,
            other => key.push(other),
        }
    }
    None
}

/// The value up to the end of its line. Quotes count at its start and directly behind other quotes.
fn value(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(next) = rest.next() {
        match next {
            '\n' | '\r' => break,
            '\'' => value.extend(rest.by_ref().take_while(|&inside| inside != '\'')),
            '"' => double_quoted(rest, &mut value),
            space if space.is_ascii_whitespace() => {}
            other => {
                plain(other, rest, &mut value);
                break;
            }
        }
    }
    value
}

fn double_quoted(rest: &mut Peekable<Chars<'_>>, value: &mut String) {
    while let Some(next) = rest.next() {
        match (next, rest.peek()) {
            ('"', _) => return,
            ('\\', Some(&escaped)) => {
                rest.next();
                if !ESCAPED.contains(&escaped) && escaped != '\n' {
                    value.push('\\');
                }
                if escaped != '\n' {
                    value.push(escaped);
                }
            }
            (other, _) => value.push(other),
        }
    }
}

/// Text without quotes to the end of the line; white space at its end does not count unless escaped.
fn plain(first: char, rest: &mut Peekable<Chars<'_>>, value: &mut String) {
    let mut kept = value.len();
    let mut next = Some(first);
    while let Some(current) = next {
        match current {
            '\n' | '\r' => break,
            '\\' => {
                value.extend(rest.next().filter(|&escaped| escaped != '\n'));
                kept = value.len();
            }
            other => {
                value.push(other);
                if !other.is_ascii_whitespace() {
                    kept = value.len();
                }
            }
        }
        next = rest.next();
    }
    value.truncate(kept);
}

/// `value` as it is written behind `=`.
pub(super) fn quote(value: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "_-.,:/+@%".contains(char);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let mut quoted = String::from('"');
    for char in value.chars() {
        if ESCAPED.contains(&char) {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_systemd_reads() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A= b  ", "b"),
            (" A =b", "b"),
            ("A='b c'", "b c"),
            ("A=\"b \\$c \\x\"", "b $c \\x"),
            ("A='b'\"c\" 'd'", "bcd"),
            ("A=b'c'", "b'c'"),
            ("A=b\\ ", "b "),
            ("A=b\\\nc", "bc"),
            ("A=\"b\nc\"", "b\nc"),
            ("# x=1\nnothing\nA=b", "b"),
            ("A=", ""),
            ("A=\"b", "b"),
        ] {
            assert_eq!(parse(text), [("A".into(), expected.into())], "{text}");
        }
        assert_eq!(parse("# a\\\nb=c"), []);
    }

    proptest! {
        // Written and read again, a value is the same.
        #[test]
        fn values_come_back(value in "[^\\p{Cc}]*") {
            let text = format!("A={}\nB=c\n", quote(&value));
            prop_assert_eq!(parse(&text), [("A".into(), value), ("B".into(), "c".into())]);
        }

        #[test]
        fn no_text_panics(text: String) {
            parse(&text);
        }
    }
}
