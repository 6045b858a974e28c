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

/// What the boot loader passes: the profile in front of the options, nothing when there is neither.
pub(super) fn passed(profile: u32, options: Option<&str>) -> Option<String> {
    match (profile, options.filter(|options| !options.is_empty())) {
        (0, options) => options.map(str::to_owned),
        (profile, None) => Some(format!("@{profile}")),
        (profile, Some(options)) => Some(format!("@{profile} {options}")),
    }
}

/// What the stub makes of that: the profile and the rest, cleaned up. Some firmware passes bytes that are no text, so with any
/// control character in it the whole is ignored.
pub(super) fn received(passed: Option<&str>) -> (u32, Option<String>) {
    let Some(passed) = passed.filter(|text| !text.chars().any(|c| c <= '\x1f')) else {
        return (0, None);
    };
    let (profile, rest) = split_profile(passed).unwrap_or((0, passed));
    (profile, Some(clean(rest)).filter(|rest| !rest.is_empty()))
}

/// `@N`, then one space or the end.
fn split_profile(passed: &str) -> Option<(u32, &str)> {
    let rest = passed.strip_prefix('@')?;
    let (number, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some((number.parse().ok()?, tail)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_hides_what_is_passed() {
        for (profile, options, on_the_way, expected) in [
            (0, None, None, (0, None)),
            (0, Some(""), None, (0, None)),
            (0, Some("a  b"), Some("a  b"), (0, Some("a  b"))),
            (2, None, Some("@2"), (2, None)),
            (2, Some(" a"), Some("@2  a"), (2, Some("a"))),
            (2, Some("a\tb"), Some("@2 a\tb"), (0, None)),
            (0, Some("@3 a"), Some("@3 a"), (3, Some("a"))),
            (0, Some("@3a"), Some("@3a"), (0, Some("@3a"))),
            (0, Some("@"), Some("@"), (0, Some("@"))),
        ] {
            let passed = passed(profile, options);
            assert_eq!(passed.as_deref(), on_the_way);
            let (profile, rest) = received(passed.as_deref());
            assert_eq!((profile, rest.as_deref()), expected, "{on_the_way:?}");
        }
    }

    #[test]
    fn only_the_ends_are_trimmed() {
        assert_eq!(clean(" \tquiet\n  splash\x7f\n"), "quiet   splash");
        assert_eq!(of_section(b"quiet\n\0garbage"), "quiet");
        assert_eq!(append("", "b"), "b");
        assert_eq!(append("a", ""), "a ");
        assert_eq!(utf16("a"), [b'a', 0, 0, 0]);
    }
}
