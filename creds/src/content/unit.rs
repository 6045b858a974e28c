//! Unit files and their kin: sections and assignments (systemd: `config_parse`), and the names of units.

use super::Violation;

/// Checks a unit file, drop-in, `.network` file and so on. An empty one masks.
pub(super) fn check(text: &str) -> Result<(), Violation> {
    let mut inside = false;
    let mut continued = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        // Comments and empty lines may stand between continued lines.
        if line.is_empty() && !continued || line.starts_with(['#', ';']) {
            continue;
        }
        if !continued {
            let what = judge(line, &mut inside);
            what.map_err(|what| Violation {
                line: Some(index + 1),
                what,
            })?;
        }
        continued = line.ends_with('\\');
    }
    Ok(())
}

fn judge(line: &str, inside: &mut bool) -> Result<(), &'static str> {
    if line.starts_with('[') {
        *inside = true;
        return if line.ends_with(']') {
            Ok(())
        } else {
            Err("the section header has no closing bracket")
        };
    }
    match line.split_once('=') {
        _ if !*inside => Err("it stands before the first section header"),
        None => Err("it is neither a section header nor an assignment"),
        Some((key, _)) if key.trim().is_empty() => Err("there is no name before the equals sign"),
        Some(_) => Ok(()),
    }
}

/// Checks the part of a credential's name that names a unit: `UNIT` of `systemd.extra-unit.UNIT`, `UNIT~DROPIN` of
/// `systemd.unit-dropin.…` (systemd: `unit_name_is_valid`). Other names are fine.
pub(crate) fn check_name(credential: &str) -> Result<(), &'static str> {
    let unit = match credential.strip_prefix("systemd.extra-unit.") {
        Some(unit) => unit,
        None => match credential
            .strip_prefix("systemd.unit-dropin.")
            .map(|unit| unit.split_once('~').unwrap_or((unit, "-")))
        {
            None => return Ok(()),
            Some((_, "")) => {
                return Err(
                    "there is nothing behind its `~`, where the name of the drop-in belongs",
                );
            }
            Some((unit, _)) => unit,
        },
    };
    if is_unit(unit) {
        Ok(())
    } else {
        Err("it does not end in the name of a unit, such as demo.service")
    }
}

fn is_unit(name: &str) -> bool {
    const TYPES: [&str; 11] = [
        "service",
        "socket",
        "target",
        "device",
        "mount",
        "automount",
        "swap",
        "timer",
        "path",
        "slice",
        "scope",
    ];
    let character = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let Some((start, kind)) = name.rsplit_once('.') else {
        return false;
    };
    !start.is_empty()
        && !start.starts_with('@')
        && TYPES.contains(&kind)
        && name.bytes().all(character)
}
