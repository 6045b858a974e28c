//! The extended attributes of an inode as the bytes behind it.

use std::collections::BTreeMap;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use super::format::{self, XattrEntry, XattrHeader};
use crate::Error;

/// The largest body whose size the inode's field can say.
const BODY_MAX: usize = size_of::<XattrHeader>() + 4 * (u16::MAX as usize - 1);

/// The body for the inode at `path`; empty without attributes.
pub(super) fn body(path: &[u8], xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    if !xattrs.is_empty() {
        body.extend_from_slice(XattrHeader::default().as_bytes());
    }
    for (name, value) in xattrs {
        append(&mut body, name, value).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            Error::entry(
                path,
                format!("EROFS cannot hold the extended attribute {name}"),
            )
        })?;
    }
    if body.len() > BODY_MAX {
        return Err(Error::entry(
            path,
            "extended attributes are longer than 262148 bytes",
        ));
    }
    Ok(body)
}

/// One entry, padded to four bytes. `None` for an unknown namespace and a name or value that is too long.
fn append(body: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Option<()> {
    let (prefix, rest) = format::xattr_prefix(name)?;
    let name_len = u8::try_from(rest.len()).ok()?;
    let value_len = U16::new(value.len().try_into().ok()?);
    body.extend_from_slice(
        XattrEntry {
            name_len,
            prefix,
            value_len,
        }
        .as_bytes(),
    );
    body.extend_from_slice(rest);
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
    Some(())
}

/// What an inode's field says about a body of `len` bytes: 0 for none, else the words behind the header + 1.
pub(super) fn count(len: usize) -> u16 {
    let words = len
        .checked_sub(size_of::<XattrHeader>())
        .map_or(0, |rest| rest / 4 + 1);
    // A body is never longer than BODY_MAX.
    u16::try_from(words).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(xattrs: &[(&[u8], &[u8])]) -> Result<Vec<u8>, Error> {
        body(
            b"x",
            &xattrs
                .iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
        )
    }

    #[test]
    fn lays_out_header_entries_and_padding() {
        assert_eq!(of(&[]).unwrap(), b"");
        assert_eq!(
            of(&[(b"user.a", b"")]).unwrap(),
            b"\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\0\0a\0\0\0"
        );
        let two = of(&[(b"user.ab", b"12345"), (b"security.c", b"z")]).unwrap();
        let second_first = b"\x01\x06\x01\0cz\0\0\x02\x01\x05\0ab12345\0";
        assert_eq!(two, [&[0; 12][..], second_first].concat());
        let acl = of(&[(b"system.posix_acl_default", b"acl!")]).unwrap();
        assert_eq!(acl, [&[0; 12][..], b"\0\x03\x04\0acl!"].concat());
    }

    #[test]
    fn counts_words() {
        for (len, expected) in [(0, 0), (12, 1), (20, 3), (BODY_MAX, u16::MAX)] {
            assert_eq!(count(len), expected, "{len}");
        }
    }

    #[test]
    fn refuses_what_has_no_place() {
        let long = [b"user.".as_slice(), &[b'n'; 256]].concat();
        let cases: [(&[u8], &[u8]); 5] = [
            (b"user.", b""),
            (b"other.a", b""),
            (b"system.posix_acl_accessx", b""),
            (&long, b""),
            (b"user.v", &[0; 65536]),
        ];
        for (name, value) in cases {
            let message = of(&[(name, value)]).unwrap_err().to_string();
            assert!(
                message.starts_with("`x`: EROFS cannot hold the extended attribute "),
                "{message}"
            );
        }
        let names: Vec<Vec<u8>> = (0..5).map(|n| format!("user.{n}").into_bytes()).collect();
        let many: Vec<(&[u8], &[u8])> = names
            .iter()
            .map(|name| (name.as_slice(), &[0; 65535][..]))
            .collect();
        assert_eq!(
            of(&many).unwrap_err().to_string(),
            "`x`: extended attributes are longer than 262148 bytes"
        );
    }
}
