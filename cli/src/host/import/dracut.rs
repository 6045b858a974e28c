//! dracut.conf(5): what a host's own initrd had beyond the usual. Its options for the kernel are read as those of the command
//! line; of the rest nothing is a credential, so each is left with what does the same here.

use super::{Left, TextFile};

const MODULES: &str = "a recipe may have it (`ukikit recipe list`); of a module of dracut `ukikit ext build --dracut=` makes an extension";
const DRIVERS: &str = "what the initrd of the UKI lacks of it, an extension of `ukikit ext build --kernel-module=` brings";
const FILES: &str = "an extension of `ukikit ext build --tree=` brings files below /usr, [files] of the host file others that are no programs";

/// What adds to an initrd, and what does it here. All other settings are about how an initrd is made.
const SETTINGS: [(&str, &str); 11] = [
    ("add_dracutmodules", MODULES),
    ("force_add_dracutmodules", MODULES),
    ("dracutmodules", MODULES),
    ("add_drivers", DRIVERS),
    ("force_drivers", DRIVERS),
    ("drivers", DRIVERS),
    ("filesystems", DRIVERS),
    ("install_items", FILES),
    ("install_optional_items", FILES),
    ("fscks", FILES),
    ("add_fstab", "give its lines as [[mount]]"),
];

/// The kernel's whole command line: `told`, and before it what dracut puts into the initrd. What else adds something is left.
pub(super) fn read(files: &[TextFile], told: &str, left: &mut Vec<Left>) -> String {
    let mut options = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            let Some((name, value)) = setting(line) else {
                continue;
            };
            if name == "kernel_cmdline" {
                let twice = |option: &&str| told.split_whitespace().any(|other| other == *option);
                options.extend(value.split_whitespace().filter(|option| !twice(option)));
            }
            let known = SETTINGS.iter().find(|(known, _)| *known == name);
            if let Some((_, reason)) = known {
                let place = format!("{}:{}: {name} {value}", file.path, at + 1);
                left.push(Left::new(place, *reason));
            }
        }
    }
    options.push(told);
    options.join(" ")
}

/// A line of a file that bash reads: `NAME="VALUE"` or `NAME+=" VALUE "`. What takes more of bash is passed over.
fn setting(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().split_once('=')?;
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value.get(1..)?.split(quote).next()?,
        _ => value.split([' ', '\t', '#']).next()?,
    };
    let value = value.trim();
    (!value.is_empty()).then_some((name.strip_suffix('+').unwrap_or(name), value))
}
