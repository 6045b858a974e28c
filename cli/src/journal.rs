//! The journal of a boot, as journalctl writes it: JSON, the export format (systemd's `JOURNAL_EXPORT_FORMATS`), or lines of text.

use anyhow::{Result, bail};
use serde_json::Value;

/// What was logged, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Journal {
    /// The messages; one of several lines is one message.
    pub messages: Vec<String>,
}

impl Journal {
    /// Reads the output of `journalctl --output=json`, `export`, or one of the `short` forms. Bytes that are not UTF-8
    /// are replaced, records without a message passed over.
    ///
    /// # Errors
    ///
    /// When there is no message in it.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let messages = match file.trim_ascii_start() {
            [b'{', ..] => of_json(file),
            start if start.starts_with(b"__") => of_export(file),
            _ => of_text(file),
        };
        if messages.is_empty() {
            bail!("there is no message of a journal in it");
        }
        Ok(Self { messages })
    }

    /// The messages with one of these words.
    pub fn with<'j>(&'j self, words: &'j [&str]) -> impl Iterator<Item = &'j str> {
        let messages = self.messages.iter().map(String::as_str);
        messages.filter(|message| words.iter().any(|word| message.contains(word)))
    }
}

/// One object a line; a message that is not text is an array of its bytes.
fn of_json(file: &[u8]) -> Vec<String> {
    let objects = file
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let messages = objects.filter_map(|object| match object.get("MESSAGE")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => Some(text_of(
            &bytes.iter().map(byte_of).collect::<Option<Vec<_>>>()?,
        )),
        _ => None,
    });
    messages.collect()
}

fn byte_of(value: &Value) -> Option<u8> {
    value.as_u64()?.try_into().ok()
}

/// `FIELD=value`, or a line `FIELD`, the size in 64 bits, little endian, and the value; an empty line ends a record.
fn of_export(mut rest: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while let Some((line, behind)) = split_at_byte(rest, b'\n') {
        rest = behind;
        if let Some(value) = line.strip_prefix(b"MESSAGE=") {
            messages.push(text_of(value));
        } else if !line.is_empty() && !line.contains(&b'=') {
            let Some((value, behind)) = sized(rest) else {
                break;
            };
            rest = behind;
            if line == b"MESSAGE" {
                messages.push(text_of(value));
            }
        }
    }
    messages
}

/// A value of the export format and what follows its line feed.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    let size = usize::try_from(u64::from_le_bytes(*size)).ok()?;
    let (value, rest) = rest.split_at_checked(size)?;
    Some((value, rest.strip_prefix(b"\n").unwrap_or(rest)))
}

/// The time, the host, the program with its process in brackets, a colon, the message. What was indented goes on with the line above.
fn of_text(file: &[u8]) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for line in text_of(file).lines() {
        match messages.last_mut() {
            Some(last) if line.starts_with("    ") => {
                last.push('\n');
                last.push_str(line.trim_start());
            }
            _ => messages.extend(message_of(line)),
        }
    }
    messages
}

fn message_of(line: &str) -> Option<String> {
    let (_, message) = line.split_once("]: ").or_else(|| line.split_once(": "))?;
    // The time of `short-monotonic` has a bracket of its own, `kernel:` none.
    Some(message.to_owned())
}

fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&found| found == byte)?;
    let (line, rest) = bytes.split_at(at);
    Some((line, rest.get(1..).unwrap_or_default()))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(file: &[u8]) -> Vec<String> {
        Journal::parse(file).unwrap().messages
    }

    #[test]
    fn reads_every_form() {
        let expected = [
            "Using extensions 'a', 'b'.",
            "two\nlines",
            "table: 254:0: verity: (-ENOKEY)",
        ];
        let json = b"{\"MESSAGE\":\"Using extensions 'a', 'b'.\",\"_PID\":\"1\"}\n{\"_PID\":\"2\"}\n\
                     {\"MESSAGE\":[116,119,111,10,108,105,110,101,115]}\n{\"MESSAGE\":\"table: 254:0: verity: (-ENOKEY)\"}\n";
        assert_eq!(messages(json), expected);
        let export = b"__CURSOR=s=1\nMESSAGE=Using extensions 'a', 'b'.\n_PID=1\n\n__CURSOR=s=2\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n\
                       OTHER\n\x03\0\0\0\0\0\0\0a\nb\n\n__CURSOR=s=3\nMESSAGE=table: 254:0: verity: (-ENOKEY)\n";
        assert_eq!(messages(export), expected);
        let text = b"[  122.976913] localhost (sd-merge)[281]: Using extensions 'a', 'b'.\n\
                     [  123.000000] localhost systemd[1]: two\n                                      lines\n\
                     [  123.067153] localhost kernel: table: 254:0: verity: (-ENOKEY)\n";
        assert_eq!(messages(text), expected);
    }

    #[test]
    fn refuses_what_is_no_journal() {
        for file in [&b""[..], b"{}", b"__CURSOR=1\n", b"\0\0"] {
            let error = Journal::parse(file).unwrap_err().to_string();
            assert_eq!(error, "there is no message of a journal in it");
        }
    }

    /// A size that is larger than what follows, in an export that ends anywhere.
    #[test]
    fn reads_an_export_that_is_cut_off() {
        let export =
            b"__CURSOR=s=1\nMESSAGE=one\n\n__CURSOR=s=2\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n";
        let read: Vec<Vec<String>> = (0..=export.len())
            .filter_map(|at| Some(Journal::parse(export.get(..at)?).ok()?.messages))
            .collect();
        let [one, two] = ["one", "two\nlines"].map(ToOwned::to_owned);
        // From the line feed of the first message on; the second is whole without its own.
        assert_eq!(read.len(), export.len() - 25 + 1);
        let whole = read
            .iter()
            .filter(|messages| **messages == [one.clone(), two.clone()]);
        assert_eq!(whole.count(), 2);
        assert!(read.iter().all(|messages| messages.first() == Some(&one)));
    }
}
