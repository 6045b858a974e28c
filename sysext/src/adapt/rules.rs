//! The table: what of an initrd goes where in an extension, and why not.

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Keep,
    /// Part of a kernel's module index.
    Index,
    /// A dracut hook: its stage decides.
    Hook,
    /// The first part of the path becomes the second.
    Move(&'static str, &'static str),
    /// To `usr/share/factory`, with a line for `systemd-tmpfiles`.
    Factory,
    Drop(&'static str),
    /// A link in the place of another link is dropped; all else is refused.
    DropLink(&'static str),
    Refuse(&'static str),
}

/// Where dracut keeps its hooks; 106 has the second as a link to the first.
const HOOKS: [&str; 3] = [
    "var/lib/dracut/hooks/",
    "etc/dracut/hooks/",
    "usr/lib/dracut/hooks/",
];
/// dracut runs `systemd-sysusers` while it builds; the files are the base's.
const USERS: &str = "users are made by systemd-sysusers from usr/lib/sysusers.d";
const RECORD: &str = "is dracut's record of the initrd";
const CACHE: &str = "libraries in the loader's own directories are found without it";
const IDENTITY: &str = "is the base's";

/// The first that matches counts. `*` stands for anything but a slash, `**` at the end for anything.
const RULES: &[(&str, Rule)] = &[
    ("etc/ld.so.cache", Rule::Drop(CACHE)),
    ("etc/passwd*", Rule::Drop(USERS)),
    ("etc/group*", Rule::Drop(USERS)),
    ("etc/shadow*", Rule::Drop(USERS)),
    ("etc/gshadow*", Rule::Drop(USERS)),
    ("etc/.pwd.lock", Rule::Drop(USERS)),
    ("etc/.updated", Rule::Drop(IDENTITY)),
    ("var/.updated", Rule::Drop(IDENTITY)),
    ("etc/machine-id", Rule::Drop(IDENTITY)),
    ("etc/hostname", Rule::Drop(IDENTITY)),
    ("etc/initrd-release", Rule::Drop(IDENTITY)),
    ("etc/os-release", Rule::Drop(IDENTITY)),
    ("usr/lib/initrd-release", Rule::Drop(IDENTITY)),
    ("usr/lib/os-release", Rule::Drop(IDENTITY)),
    ("usr/lib/dracut/*.txt", Rule::Drop(RECORD)),
    ("usr/lib/dracut/dracut-*", Rule::Drop(RECORD)),
    ("usr/lib/modules/*/modules.*", Rule::Index),
    ("var/lib/dracut/hooks/**", Rule::Hook),
    ("etc/dracut/hooks/**", Rule::Hook),
    ("usr/lib/dracut/hooks/**", Rule::Hook),
    (
        "usr/lib/dracut/need-initqueue",
        Rule::Drop("is for hooks of the initqueue, which runs before extensions are merged"),
    ),
    (
        "etc/systemd/system/**",
        Rule::Move("etc/systemd/system", "usr/lib/systemd/system"),
    ),
    (
        "etc/systemd/network/**",
        Rule::Move("etc/systemd/network", "usr/lib/systemd/network"),
    ),
    (
        "etc/udev/rules.d/**",
        Rule::Move("etc/udev/rules.d", "usr/lib/udev/rules.d"),
    ),
    (
        "etc/modprobe.d/**",
        Rule::Move("etc/modprobe.d", "usr/lib/modprobe.d"),
    ),
    (
        "etc/modules-load.d/**",
        Rule::Move("etc/modules-load.d", "usr/lib/modules-load.d"),
    ),
    (
        "etc/sysusers.d/**",
        Rule::Move("etc/sysusers.d", "usr/lib/sysusers.d"),
    ),
    (
        "etc/tmpfiles.d/**",
        Rule::Move("etc/tmpfiles.d", "usr/lib/tmpfiles.d"),
    ),
    (
        "etc/cmdline.d/**",
        Rule::Drop(
            "dracut-cmdline has read the kernel command line before extensions are merged; a credential or an addon replaces it",
        ),
    ),
    (
        "etc/cmdline",
        Rule::Drop(
            "dracut-cmdline has read the kernel command line before extensions are merged; a credential or an addon replaces it",
        ),
    ),
    (
        "etc/fstab",
        Rule::Drop(
            "generators have run before extensions are merged; the credential fstab.extra replaces it",
        ),
    ),
    (
        "etc/crypttab",
        Rule::Drop(
            "generators have run before extensions are merged; a unit for the volume replaces it",
        ),
    ),
    ("etc/**", Rule::Factory),
    ("usr/**", Rule::Keep),
    ("opt/**", Rule::Keep),
    ("dev/**", Rule::Drop("udev makes device nodes")),
    ("proc/**", Rule::Drop("is mounted over")),
    ("sys/**", Rule::Drop("is mounted over")),
    ("run/**", Rule::Drop("is mounted over")),
    ("tmp/**", Rule::Drop("is gone when the system runs")),
    ("var/lib/systemd/random-seed", Rule::Drop(IDENTITY)),
    ("var/**", Rule::Factory),
];

/// Files of the base that another set of dracut modules is known to change.
const CHANGED: &[(&str, Rule)] = &[
    ("init", Rule::Drop(IDENTITY)),
    (
        "usr/lib/systemd/system/systemd-tmpfiles-setup.service",
        Rule::Drop(
            "dracut's dbus modules edit the base's unit; the extension's order of start does not need it",
        ),
    ),
    (
        "etc/nsswitch.conf",
        Rule::Drop("the base's is in use before extensions are merged"),
    ),
    (
        "etc/services",
        Rule::Drop("the base's is in use before extensions are merged"),
    ),
    ("etc/conf.d/systemd.conf", Rule::Drop(RECORD)),
    // A link, to bash where a module asks for that one.
    (
        "usr/bin/sh",
        Rule::DropLink("the base has a shell of its own, which its scripts know"),
    ),
];

/// What dracut does in the stages before the merge, and what does it instead.
const EARLY: [(&str, &str); 4] = [
    ("cmdline", "a unit that imports a credential replaces it"),
    (
        "pre-udev",
        "a unit of the extension, or its modules-load.d, replaces it",
    ),
    (
        "pre-trigger",
        "udev rules of the extension replace it: its events are replayed",
    ),
    (
        "initqueue",
        "a unit that the extension's target wants, or a udev rule with SYSTEMD_WANTS, replaces it",
    ),
];

pub(super) const DIFFERS: &str = "differs from the base's: a changed copy would replace it for all; it was built from another version, or needs a drop-in";

/// What is done with a file that differs from the base's (`changed`) or is missing there.
pub(super) fn of(path: &[u8], changed: bool) -> Rule {
    let find = |table: &[(&str, Rule)]| {
        let mut rules = table.iter();
        rules
            .find(|(pattern, _)| matches(pattern.as_bytes(), path))
            .map(|(_, rule)| *rule)
    };
    let rule = find(RULES);
    if !changed {
        return rule.unwrap_or(Rule::Refuse(
            "has no place in an extension: it is outside usr, opt, etc and var",
        ));
    }
    match rule {
        Some(Rule::Drop(reason)) => Rule::Drop(reason),
        Some(Rule::Index) => Rule::Index,
        _ => find(CHANGED).unwrap_or(Rule::Refuse(DIFFERS)),
    }
}

/// The stage of a hook, and the path below it.
pub(super) fn hook(path: &[u8]) -> Option<(&str, &str)> {
    let path = str::from_utf8(path).ok()?;
    let inside = HOOKS.iter().find_map(|prefix| path.strip_prefix(prefix))?;
    inside.split_once('/')
}

/// What replaces a hook of this stage; `None` for one that comes after the merge.
pub(super) fn replacement(stage: &str) -> Option<&'static str> {
    let found = EARLY.iter().find(|(early, _)| *early == stage);
    found.map(|(_, replacement)| *replacement)
}

/// Whether what lies here is not the initrd's.
pub(super) fn is_runtime(path: &[u8]) -> bool {
    let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    let runtime: [&[u8]; 6] = [b"dev", b"proc", b"sys", b"run", b"tmp", b"sysroot"];
    runtime.contains(&first)
}

/// `*` is any run of bytes without a slash, `**` any run.
pub(super) fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*'] => true,
        [b'*', rest @ ..] => {
            let end = path
                .iter()
                .position(|&byte| byte == b'/')
                .unwrap_or(path.len());
            (0..=end).any(|at| matches(rest, path.get(at..).unwrap_or_default()))
        }
        [first, rest @ ..] => path
            .split_first()
            .is_some_and(|(byte, path)| byte == first && matches(rest, path)),
    }
}
