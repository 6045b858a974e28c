//! The lines of an mtree(5) file: directories entered and left, defaults, names spelled with vis(3).

use std::collections::BTreeMap;

use crate::Error;
use crate::tree::{join, parent};

/// Keywords with their values. A keyword alone has none.
type Keywords = BTreeMap<String, Option<Vec<u8>>>;

/// One path and what is said of it, defaults included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1, as editors count.
    pub(super) number: usize,
    /// As a tree has it.
    pub(super) path: Vec<u8>,
    pub(super) keywords: Keywords,
}

/// Where a reader of lines is.
#[derive(Default)]
struct State {
    /// What `/set` has set.
    defaults: Keywords,
    /// The directory that was entered last; `None` before the first.
    directory: Option<Vec<u8>>,
}

/// All lines about paths.
pub(super) fn lines(text: &[u8]) -> Result<Vec<Line>, Error> {
    let mut state = State::default();
    let mut lines = Vec::new();
    for (number, words) in logical_lines(text) {
        let Some((first, rest)) = words.split_first() else {
            continue;
        };
        let line = match first.as_slice() {
            b"/set" => {
                state.defaults.extend(keywords(rest));
                None
            }
            b"/unset" => {
                for key in keywords(rest).into_keys() {
                    state.defaults.remove(&key);
                }
                None
            }
            other if other.starts_with(b"/") => {
                let what = format!("`{}` is neither /set nor /unset", other.escape_ascii());
                return Err(Error::line(number, what));
            }
            b".." => {
                state.leave(number)?;
                None
            }
            name => Some(state.line(number, name, rest)),
        };
        lines.extend(line);
    }
    Ok(lines)
}

impl State {
    fn leave(&mut self, number: usize) -> Result<(), Error> {
        let Some(directory) = self.directory.take() else {
            return Err(Error::line(number, "`..` leaves the root"));
        };
        if !directory.is_empty() {
            self.directory = Some(parent(&directory).to_vec());
        }
        Ok(())
    }

    fn line(&mut self, number: usize, name: &[u8], rest: &[Vec<u8>]) -> Line {
        let mut keywords = self.defaults.clone();
        keywords.extend(self::keywords(rest));
        let full = name.contains(&b'/');
        let name = unvis(name.strip_prefix(b"./").unwrap_or(name));
        let path = match (&self.directory, name.as_slice()) {
            (_, b".") => Vec::new(),
            (Some(directory), _) if !full => join(directory, &name),
            _ => name,
        };
        let is_directory = keywords
            .get("type")
            .is_some_and(|kind| kind.as_deref() == Some(b"dir"));
        if is_directory && !full {
            self.directory = Some(path.clone());
        }
        Line {
            number,
            path,
            keywords,
        }
    }
}

/// The words of each line that has any, with continued lines joined; the number is that of the first.
fn logical_lines(text: &[u8]) -> Vec<(usize, Vec<Vec<u8>>)> {
    let mut lines: Vec<(usize, Vec<Vec<u8>>)> = Vec::new();
    let mut continued = false;
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        let (line, goes_on) = match line.strip_suffix(b"\\") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .map(<[u8]>::to_vec);
        let is_comment = line.starts_with(b"#") && !continued;
        match lines.last_mut() {
            Some((_, last)) if continued => last.extend(words),
            _ if is_comment => {}
            _ => lines.push((index + 1, words.collect())),
        }
        continued = goes_on && !is_comment;
    }
    lines
}

fn keywords(words: &[Vec<u8>]) -> Keywords {
    let keyword = |word: &Vec<u8>| {
        let mut parts = word.splitn(2, |&byte| byte == b'=');
        let key = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        (key, parts.next().map(unvis))
    };
    words.iter().map(keyword).collect()
}

/// Undoes vis(3): `\NNN` in octal, and the short forms of white space. Other backslashes stay.
fn unvis(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, used) = match (first, behind) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), 3)
            }
            (b'\\', [b's', ..]) => (b' ', 1),
            (b'\\', [b't', ..]) => (b'\t', 1),
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [same @ (b'\\' | b'#'), ..]) => (*same, 1),
            (other, _) => (other, 0),
        };
        bytes.push(byte);
        rest = behind.get(used..).unwrap_or_default();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let lines = lines(text.as_bytes()).unwrap();
        lines
            .iter()
            .map(|line| format!("{} {}", line.number, line.path.escape_ascii()))
            .collect()
    }

    #[test]
    fn directories_are_entered_and_left() {
        let text = "#mtree\n. type=dir\nusr type=dir\nbin type=dir\na \\\n  mode=1\n..\nlib type=dir\n..\n..\n./full/path type=dir\nb\n";
        assert_eq!(
            paths(text),
            [
                "2 ",
                "3 usr",
                "4 usr/bin",
                "5 usr/bin/a",
                "8 usr/lib",
                "11 full/path",
                "12 b"
            ]
        );
    }

    #[test]
    fn names_are_spelled_with_vis() {
        assert_eq!(
            paths("./a\\040b\\\\c\\012\n./x\\sy\\#\\q"),
            ["1 a b\\\\c\\n", "2 x y#\\\\q"]
        );
    }

    #[test]
    fn defaults_hold_until_they_are_unset() {
        let lines = lines(b"/set uid=1 gid=2\na gid=3 optional\n/unset uid\nb\n").unwrap();
        let keywords: Vec<String> = lines
            .iter()
            .map(|line| format!("{:?}", line.keywords))
            .collect();
        assert_eq!(
            keywords,
            [
                "{\"gid\": Some([51]), \"optional\": None, \"uid\": Some([49])}",
                "{\"gid\": Some([50])}"
            ]
        );
    }

    #[test]
    fn other_commands_and_too_many_dots_are_refused() {
        for (text, expected) in [
            (
                "\n/include x",
                "line 2: `/include` is neither /set nor /unset",
            ),
            (". type=dir\n..\n..", "line 3: `..` leaves the root"),
        ] {
            assert_eq!(lines(text.as_bytes()).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(text: Vec<u8>) {
            let _ = lines(&text);
        }
    }
}
