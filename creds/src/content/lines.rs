//! Formats of one entry a line: fstab, tmpfiles.d, sysusers.d, sysctl.d, authorized_keys, pulls.

use super::Violation;

/// The verdict on one line that is neither empty nor a comment, without blanks around it.
type Rule = fn(&str) -> Result<(), &'static str>;

/// Checks each line; empty ones and those that begin with `#` are nobody's.
pub(super) fn check(text: &str, rule: Rule) -> Result<(), Violation> {
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        rule(line).map_err(|what| Violation {
            line: Some(index + 1),
            what,
        })?;
    }
    Ok(())
}

/// systemd-fstab-generator: 257 takes a missing type and words for numbers, 262 drops such a line without a word.
pub(super) fn fstab(line: &str) -> Result<(), &'static str> {
    let mut fields = line.split_ascii_whitespace();
    let (Some(_), Some(place), Some(kind)) = (fields.next(), fields.next(), fields.next()) else {
        return Err("it has fewer than three fields: device, mount point, type");
    };
    if kind != "swap" && !place.contains('/') {
        return Err("its mount point is not a path");
    }
    // Options first; what stands behind the two numbers is ignored.
    match fields
        .skip(1)
        .take(2)
        .all(|number| number.parse::<i32>().is_ok())
    {
        true => Ok(()),
        false => Err("its fifth or sixth field is not a number"),
    }
}

/// systemd-tmpfiles `parse_line`: type and modifiers, an absolute path, an octal mode.
pub(super) fn tmpfiles(line: &str) -> Result<(), &'static str> {
    let fields = fields(line)?;
    let [kind, path, rest @ ..] = fields.as_slice() else {
        return Err("it has fewer than two fields: type, path");
    };
    let mut kind = kind.chars();
    if !kind
        .next()
        .is_some_and(|letter| "fFwdDevqQpLcbCxXrRzZtThHaAk".contains(letter))
    {
        return Err("its type is none that systemd-tmpfiles knows");
    }
    if !kind.all(|modifier| "!-+=~^$?".contains(modifier)) {
        return Err("its type has a modifier that systemd-tmpfiles does not know");
    }
    // A specifier stands for an absolute path.
    if !path.starts_with(['/', '%']) {
        return Err("its path is not absolute");
    }
    match rest.first() {
        Some(mode) if !is_mode(mode) => Err("its mode is not an octal number up to 7777"),
        _ => Ok(()),
    }
}

fn is_mode(field: &str) -> bool {
    let digits = field.trim_start_matches(['~', ':']);
    field == "-" || u32::from_str_radix(digits, 8).is_ok_and(|mode| mode <= 0o7777)
}

/// systemd-sysusers `parse_line`.
pub(super) fn sysusers(line: &str) -> Result<(), &'static str> {
    let fields = fields(line)?;
    let [kind, name, rest @ ..] = fields.as_slice() else {
        return Err("it has fewer than two fields: type, name");
    };
    match (kind.as_str(), rest.first().map(String::as_str)) {
        ("u" | "u!" | "g", _) => Ok(()),
        ("m", None | Some("-")) => Err("a line of type m names a group in its third field"),
        ("m", Some(_)) => Ok(()),
        ("r", _) if name != "-" => Err("a line of type r has no name: write `-`"),
        ("r", None | Some("-")) => Err("a line of type r has a range of IDs in its third field"),
        ("r", Some(_)) => Ok(()),
        _ => Err("its type is none that systemd-sysusers knows"),
    }
}

/// Fields as systemd splits them: blanks between, quotes and backslashes taken off.
fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut field: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => {
                let escaped = characters.next().ok_or("it ends in a backslash")?;
                field.get_or_insert_default().extend(['\\', escaped]);
            }
            (_, Some(open)) if character == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                field.get_or_insert_default();
            }
            (' ' | '\t', None) => fields.extend(field.take()),
            _ => field.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("it has a quote that is not closed");
    }
    fields.extend(field);
    Ok(fields)
}

/// systemd-sysctl: an assignment, or `-NAME`, which keeps a name from being set.
pub(super) fn sysctl(line: &str) -> Result<(), &'static str> {
    if line.contains('=') || line.starts_with(['-', ';']) {
        Ok(())
    } else {
        Err("it is not an assignment")
    }
}

/// sshd(8), AUTHORIZED_KEYS: options, a key type, the key in Base64.
pub(super) fn ssh_key(line: &str) -> Result<(), &'static str> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let is_kind = |word: &str| {
        ["ssh-", "ecdsa-sha2-", "sk-"]
            .iter()
            .any(|start| word.starts_with(start))
    };
    let is_key = |word: &str| {
        word.starts_with("AAAA")
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    };
    match words
        .windows(2)
        .any(|pair| matches!(pair, [kind, key] if is_kind(kind) && is_key(key)))
    {
        true => Ok(()),
        false => Err("it has no key type followed by a key in Base64"),
    }
}

/// systemd-import-generator `parse_pull_expression`: `OPTIONS:NAME:URL`.
pub(super) fn pull(line: &str) -> Result<(), &'static str> {
    let mut parts = line.splitn(3, ':');
    let (Some(options), Some(_), Some(url)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it has fewer than three parts: options, local name, URL");
    };
    let has = |wanted: &[&str]| options.split(',').any(|option| wanted.contains(&option));
    if !has(&["raw", "tar"]) {
        return Err("its options name neither raw nor tar");
    }
    let known = ["http://", "https://", "file://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    if known || has(&["bootorigin"]) {
        Ok(())
    } else {
        Err("its last part is no URL of http, https or file")
    }
}
