//! The kernel's command line on its way: decoded, cleaned up, joined (systemd's `mangle_stub_cmdline`).

/// Every character up to the space, and DEL, becomes a space; those at the ends go.
pub(super) fn clean(text: &str) -> String {
    let blank = |c: char| c <= ' ' || c == '\x7f';
    let spaced: String = text
        .chars()
        .map(|c| if blank(c) { ' ' } else { c })
        .collect();
    spaced.trim_matches(' ').to_owned()
}

/// A `.cmdline` section: text up to the first NUL.
pub(super) fn of_section(section: &[u8]) -> String {
    let text = section.split(|&byte| byte == 0).next().unwrap_or_default();
    clean(&String::from_utf8_lossy(text))
}

/// Joined as the stub appends: an empty line in front leaves no space behind it, one behind does.
pub(super) fn append(line: &str, more: &str) -> String {
    if line.is_empty() {
        more.to_owned()
    } else {
        format!("{line} {more}")
    }
}

/// As it is measured: UTF-16 with its NUL.
pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ends_are_trimmed() {
        assert_eq!(clean(" \tquiet\n  splash\x7f\n"), "quiet   splash");
        assert_eq!(of_section(b"quiet\n\0garbage"), "quiet");
        assert_eq!(append("", "b"), "b");
        assert_eq!(append("a", ""), "a ");
        assert_eq!(utf16("a"), [b'a', 0, 0, 0]);
    }
}
