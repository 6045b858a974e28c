//! SELinux labels by path, from a file in the syntax of file_contexts(5), as a policy ships it for a target system.
//!
//! ```text
//! /usr/bin(/.*)?             system_u:object_r:bin_t:s0
//! /usr/lib/.*\.so.*    --    system_u:object_r:lib_t:s0
//! /usr/lib/private     -d    <<none>>
//! ```
//!
//! Of several lines that match, one without special characters wins, else the last, as in libselinux.

use std::collections::HashSet;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

use crate::{Error, Kind, Tree, escape};

/// The attribute of a label.
const XATTR: &[u8] = b"security.selinux";
/// What ends the literal part of an expression.
const SPECIAL: &str = ".^$?*+|[({";
/// No expression of any policy compiles to more, in bytes.
const PROGRAM_MAX: usize = 1 << 20;
/// The longest label the kernel takes.
const LABEL_MAX: usize = 4096;

/// Labels for the files of one system.
#[derive(Debug, Clone, Default)]
pub struct FileContexts {
    /// The one that matches first wins.
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    line: usize,
    /// What every path that matches starts with.
    prefix: Vec<u8>,
    /// Whether the prefix is the whole path.
    literal: bool,
    expression: String,
    /// Compiled when a path starts with the prefix.
    compiled: OnceLock<Option<Regex>>,
    /// Only files of this kind, by [`Kind::word`]; all when `None`.
    kind: Option<&'static str>,
    /// `None`: the file gets no label.
    label: Option<String>,
}

impl FileContexts {
    /// Reads a file_contexts file.
    ///
    /// # Errors
    ///
    /// [`Error::Line`] for a line that is none of that syntax.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let mut rules = Vec::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line =
                std::str::from_utf8(line).map_err(|_| Error::line(index + 1, "is not UTF-8"))?;
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                rules.push(Rule::parse(index + 1, line)?);
            }
        }
        rules.reverse();
        // A stable sort: within the two groups the later line stays in front.
        rules.sort_by_key(|rule| !rule.literal);
        Ok(Self { rules })
    }

    /// The label of what lies at `path` of a tree; `None` when it gets none.
    ///
    /// # Errors
    ///
    /// [`Error::Line`] for an expression that is none.
    pub fn label(&self, path: &[u8], kind: &Kind) -> Result<Option<&str>, Error> {
        let path = [b"/", path].concat();
        for rule in &self.rules {
            if rule.matches(&path, kind)? {
                return Ok(rule.label.as_deref());
            }
        }
        Ok(None)
    }

    /// Labels everything in a tree, each file by its first path; a label that was there goes.
    ///
    /// # Errors
    ///
    /// As [`FileContexts::label`].
    pub fn apply(&self, tree: &mut Tree) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let mut labels = Vec::new();
        for (path, inode, entry) in tree.inodes() {
            if seen.insert(inode) {
                labels.push((
                    path.to_vec(),
                    self.label(path, &entry.kind)?.map(str::to_owned),
                ));
            }
        }
        for (path, label) in labels {
            let Some(entry) = tree.get_mut(&path) else {
                continue;
            };
            entry.xattrs.remove(XATTR);
            if let Some(label) = label {
                // As setfilecon(3) writes it, with the NUL at its end.
                entry
                    .xattrs
                    .insert(XATTR.to_vec(), [label.as_bytes(), b"\0"].concat());
            }
        }
        Ok(())
    }
}

impl Rule {
    fn parse(line: usize, text: &str) -> Result<Self, Error> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (expression, kind, label) = match words.as_slice() {
            [expression, label] => (*expression, None, *label),
            [expression, kind, label] => {
                let known = self::kind(kind);
                let what = || Error::line(line, format!("`{kind}` is no kind of file"));
                (*expression, Some(known.ok_or_else(what)?), *label)
            }
            _ => return Err(Error::line(line, "is not `PATH [KIND] LABEL`")),
        };
        let none = label == "<<none>>";
        let parts = label.splitn(4, ':').filter(|part| !part.is_empty()).count();
        let good = (3..=4).contains(&parts) && label.bytes().all(|byte| byte.is_ascii_graphic());
        if !none && (!good || label.len() > LABEL_MAX) {
            return Err(Error::line(
                line,
                format!("`{}` is no label", escape(label.as_bytes())),
            ));
        }
        let (prefix, literal) = prefix(expression);
        Ok(Self {
            line,
            prefix,
            literal,
            expression: expression.to_owned(),
            compiled: OnceLock::new(),
            kind,
            label: (!none).then(|| label.to_owned()),
        })
    }

    fn matches(&self, path: &[u8], kind: &Kind) -> Result<bool, Error> {
        if !path.starts_with(&self.prefix) || self.kind.is_some_and(|wanted| wanted != kind.word())
        {
            return Ok(false);
        }
        let compile = || {
            RegexBuilder::new(&format!("^(?:{})$", self.expression))
                .unicode(false)
                .dot_matches_new_line(true)
                .size_limit(PROGRAM_MAX)
                .build()
                .ok()
        };
        let Some(expression) = self.compiled.get_or_init(compile) else {
            let what = format!(
                "`{}` is no regular expression",
                escape(self.expression.as_bytes())
            );
            return Err(Error::line(self.line, what));
        };
        Ok(expression.is_match(path))
    }
}

/// The words of [`Kind::word`] for the types of file_contexts; sockets are never in a tree.
fn kind(text: &str) -> Option<&'static str> {
    Some(match text {
        "--" => "file",
        "-d" => "directory",
        "-l" => "symlink",
        "-c" => "char-device",
        "-b" => "block-device",
        "-p" => "fifo",
        "-s" => "socket",
        _ => return None,
    })
}

/// What an expression starts with literally, and whether that is all of it.
fn prefix(expression: &str) -> (Vec<u8>, bool) {
    // An alternative at the top has nothing in common with what stands before it.
    if expression.contains('|') {
        return (Vec::new(), false);
    }
    let mut prefix = Vec::new();
    let mut chars = expression.char_indices().peekable();
    while let Some((_, char)) = chars.next() {
        let literal = match char {
            '\\' => match chars.next() {
                Some((_, escaped)) if escaped.is_ascii_punctuation() => escaped,
                _ => return (prefix, false),
            },
            special if SPECIAL.contains(special) => return (prefix, false),
            other => other,
        };
        // What may be repeated zero times is not certain to be there.
        if chars.peek().is_some_and(|(_, next)| "?*{".contains(*next)) {
            return (prefix, false);
        }
        prefix.extend(literal.encode_utf8(&mut [0; 4]).as_bytes());
    }
    (prefix, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, tree::listing::listing};

    const POLICY: &str = "# a policy\n/usr(/.*)?\t\tsystem_u:object_r:usr_t:s0\n\
        /usr/bin(/.*)?  system_u:object_r:bin_t:s0\n/usr/lib/.*\\.so.*  --  system_u:object_r:lib_t:s0\n\
        /usr/bin/ping  --  system_u:object_r:ping_exec_t:s0\n/usr/bin/p.*  system_u:object_r:p_t:s0:c1,c2\n\
        /usr/private(/.*)?  <<none>>\n(/usr|/opt)/either  system_u:object_r:either_t:s0\n";

    #[test]
    fn the_most_certain_and_then_the_last_line_wins() {
        let contexts = FileContexts::parse(POLICY.as_bytes()).unwrap();
        let (file, directory) = (Entry::file("").kind, Kind::Directory);
        for (path, kind, expected) in [
            ("usr", &directory, Some("usr_t:s0")),
            ("usr/bin", &directory, Some("bin_t:s0")),
            ("usr/bin/ping", &file, Some("ping_exec_t:s0")),
            ("usr/bin/ping", &directory, Some("p_t:s0:c1,c2")),
            ("usr/bin/pong", &file, Some("p_t:s0:c1,c2")),
            ("usr/lib/a/libb.so.1", &file, Some("lib_t:s0")),
            ("usr/lib/a/libb.so.1", &directory, Some("usr_t:s0")),
            ("usr/lib/a/libb\n.so", &file, Some("lib_t:s0")),
            ("usr/private/x", &file, None),
            ("opt/either", &file, Some("either_t:s0")),
            ("opt", &directory, None),
        ] {
            let label = contexts.label(path.as_bytes(), kind).unwrap();
            let expected = expected.map(|label| format!("system_u:object_r:{label}"));
            assert_eq!(label, expected.as_deref(), "{path}");
        }
    }

    #[test]
    fn a_tree_gets_its_labels_and_loses_those_of_its_machine() {
        let mut tree = Tree::new();
        let mut labelled = Entry::file("");
        labelled.xattrs.insert(XATTR.to_vec(), b"builder".to_vec());
        tree.insert("usr/private", labelled.clone()).unwrap();
        tree.insert("usr/bin/x", labelled).unwrap();
        FileContexts::parse(POLICY.as_bytes())
            .unwrap()
            .apply(&mut tree)
            .unwrap();
        let label = |path: &str| tree.get(path).unwrap().xattrs.get(XATTR).cloned();
        assert_eq!(label("usr/bin/x").unwrap(), b"system_u:object_r:bin_t:s0\0");
        assert_eq!(label("usr/private"), None, "{:?}", listing(&tree));
    }

    #[test]
    fn other_text_is_refused() {
        for (text, expected) in [
            ("/usr", "line 1: is not `PATH [KIND] LABEL`"),
            ("\n/usr -x a:b:c", "line 2: `-x` is no kind of file"),
            ("/usr bin_t", "line 1: `bin_t` is no label"),
            ("/usr a:b\u{7f}:c", "line 1: `a:b\\x7f:c` is no label"),
        ] {
            let error = FileContexts::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let contexts = FileContexts::parse(b"/usr(/.* a:b:c:s0").unwrap();
        let error = contexts.label(b"usr", &Kind::Directory).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 1: `/usr(/.*` is no regular expression"
        );
    }
}
