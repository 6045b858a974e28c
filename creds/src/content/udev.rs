//! udev rules, as far as `udevadm verify` calls a line no key and value pair at all (systemd: `parse_line`).

use super::Violation;

pub(super) fn check(text: &str) -> Result<(), Violation> {
    let mut start = None;
    let mut rule = String::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let first = *start.get_or_insert(index + 1);
        match line.strip_suffix('\\') {
            Some(part) => rule.push_str(part),
            None => {
                rule.push_str(line);
                judge(&rule).map_err(|what| Violation {
                    line: Some(first),
                    what,
                })?;
                rule.clear();
                start = None;
            }
        }
    }
    judge(&rule).map_err(|what| Violation { line: start, what })
}

/// A rule: pairs of key, operator and quoted value.
fn judge(rule: &str) -> Result<(), &'static str> {
    let mut rest = rule.trim_start_matches(BETWEEN);
    while !rest.is_empty() {
        rest = pair(rest).ok_or("it is not made of KEY, operator and \"value\"")?;
        rest = rest.trim_start_matches(BETWEEN);
    }
    Ok(())
}

const BETWEEN: [char; 3] = [' ', '\t', ','];

/// What follows the first pair; `None` when there is none.
fn pair(text: &str) -> Option<&str> {
    let key = text.find(|character: char| " \t{=!+-:".contains(character))?;
    let (key, mut rest) = text.split_at_checked(key)?;
    if let Some(attribute) = rest.strip_prefix('{') {
        rest = attribute.split_once('}')?.1;
    }
    let rest = rest.trim_start();
    let operators = ["==", "!=", "+=", "-=", ":=", "="];
    let rest = operators
        .iter()
        .find_map(|operator| rest.strip_prefix(operator))?;
    let value = rest
        .trim_start()
        .trim_start_matches(['e', 'i'])
        .strip_prefix('"')?;
    if key.is_empty() {
        return None;
    }
    after_quote(value)
}

/// What follows the closing quote; a backslash takes the next character into the value.
fn after_quote(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' if !escaped => return text.get(at + 1..),
            _ => escaped = character == '\\' && !escaped,
        }
    }
    None
}
