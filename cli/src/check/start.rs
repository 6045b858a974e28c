//! Rules about how the boot is started: entry, profile, command line, addons.

use ukikit_esp::{Addon, AddonVerdict, Error};
use ukikit_sysext::initrd;

use super::{Found, Subject};
use crate::model::Import;

pub(super) fn uki_unreadable(subject: &Subject<'_>) -> Vec<Found> {
    let fault = subject.fault.iter();
    fault
        .map(|fault| Found::new(subject.uki(), fault, "place the UKI anew"))
        .collect()
}

pub(super) fn profile_missing(subject: &Subject<'_>) -> Vec<Found> {
    match &subject.boot {
        Err(error @ Error::NoProfile { .. }) => {
            let remedy = "name a profile that is there in the boot entry";
            vec![Found::new(&subject.label, error.to_string(), remedy)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn options_ignored(subject: &Subject<'_>) -> Vec<Found> {
    let options = subject.planned.start.options.as_deref().unwrap_or_default();
    if !options.chars().any(|c| c <= '\x1f') {
        return Vec::new();
    }
    let reason = "its options hold a control character, a tab perhaps, and the stub ignores all of them and the profile";
    vec![Found::new(&subject.label, reason, "write spaces")]
}

pub(super) fn extra_missing(subject: &Subject<'_>) -> Vec<Found> {
    let Ok(boot) = &subject.boot else {
        return Vec::new();
    };
    let packed: Vec<&String> = boot
        .archives
        .iter()
        .filter(|archive| archive.kind.is_of_entry())
        .flat_map(|archive| &archive.files)
        .collect();
    let missing = subject.extras.iter().filter(|extra| {
        let path = extra.replace('\\', "/");
        let path = path.trim_start_matches('/');
        !packed.iter().any(|file| file.eq_ignore_ascii_case(path))
    });
    missing
        .map(|extra| {
            let reason = format!("`extra {extra}` is passed over: it is missing, empty, or none of .cred, .sysext.raw and .confext.raw");
            Found::new(&subject.label, reason, "place the file, or remove the line")
        })
        .collect()
}

pub(super) fn addon_ignored(subject: &Subject<'_>) -> Vec<Found> {
    let Ok(boot) = &subject.boot else {
        return Vec::new();
    };
    boot.addons.iter().filter_map(addon_fault).collect()
}

fn addon_fault(addon: &Addon) -> Option<Found> {
    if addon.verdict == AddonVerdict::Taken {
        let error = initrd::read(addon.initrd.as_deref()?).err()?;
        let reason = format!("the kernel cannot unpack its initrd: {error}");
        return Some(Found::new(&addon.path, reason, "make the addon anew"));
    }
    let reason = format!("the stub ignores this addon: {}", addon.verdict);
    let remedy = match addon.verdict {
        AddonVerdict::OtherKernel => "use the addon that was made for this UKI's kernel",
        AddonVerdict::Unsigned | AddonVerdict::Changed | AddonVerdict::Untrusted => {
            "sign it with a key that the firmware or shim knows"
        }
        _ => "make the addon anew",
    };
    Some(Found::new(&addon.path, reason, remedy))
}

pub(super) fn import_off(subject: &Subject<'_>) -> Vec<Found> {
    if !subject.is_off("systemd.import_credentials") {
        return Vec::new();
    }
    let delivered = subject.model.credentials.iter();
    delivered
        .filter(|credential| credential.import == Import::Taken)
        .map(|credential| {
            let reason = "systemd.import_credentials=no keeps PID 1 from importing it";
            let remedy = "carry it in a signed extension (ukikit cred carry), or remove the option";
            Found::new(&credential.file.path, reason, remedy)
        })
        .collect()
}

pub(super) fn userspace_verity_off(subject: &Subject<'_>) -> Vec<Found> {
    if !subject.is_off("systemd.allow_userspace_verity") || subject.model.extensions.is_empty() {
        return Vec::new();
    }
    let reason = "systemd.allow_userspace_verity=no: certificates of the initrd do not count, only the kernel's keyrings";
    let remedy = "sign with a key of the firmware's db or MOK, or remove the option";
    vec![Found::new(subject.uki(), reason, remedy)]
}

pub(super) fn image_policy_open(subject: &Subject<'_>) -> Vec<Found> {
    let policy = subject.option("systemd.image_policy");
    let open = policy.filter(|policy| accepts_unsigned(policy));
    let reason = open.map(|policy| {
        format!("systemd.image_policy={policy} accepts partitions of the disk that nobody signed")
    });
    let remedy = "write root=signed+absent:usr=signed+absent";
    let found = reason.map(|reason| Found::new(subject.uki(), reason, remedy));
    found.into_iter().collect()
}

/// Whether a policy (systemd.image-policy(7)) takes a root or usr partition that nobody signed.
fn accepts_unsigned(policy: &str) -> bool {
    const UNSIGNED: [&str; 4] = ["open", "unprotected", "verity", "encrypted"];
    let loose = |flags: &str| flags.split('+').any(|flag| UNSIGNED.contains(&flag));
    if policy == "*" {
        return true;
    }
    policy.split(':').any(|rule| match rule.split_once('=') {
        Some(("root" | "usr" | "", flags)) => loose(flags),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::accepts_unsigned;

    #[test]
    fn policies_are_read_as_systemd_writes_them() {
        for (policy, open) in [
            ("*", true),
            ("-", false),
            ("~", false),
            ("root=signed+absent:usr=signed+absent", false),
            ("root=verity+signed+absent", true),
            ("usr=unprotected", true),
            ("=open", true),
            ("root=signed:=unused+absent", false),
            ("home=unprotected", false),
        ] {
            assert_eq!(accepts_unsigned(policy), open, "{policy}");
        }
    }
}
