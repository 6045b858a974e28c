//! File capabilities in words, as setcap(8) takes them, and as the kernel keeps them in `security.capability`
//! (`struct vfs_cap_data` of `linux/capability.h`).

/// By their number.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];
/// Second revision: two words of 32 bits.
const REVISION: u32 = 0x0200_0000;
/// They are effective at once.
const EFFECTIVE: u32 = 1;

/// The attribute for `cap_a,cap_b+ep` or `=`, with any of `e`, `i` and `p`; `None` for other text.
pub(super) fn parse(text: &str) -> Option<Vec<u8>> {
    let (names, flags) = text.split_once(['+', '='])?;
    let mut set = 0_u64;
    for name in names.split(',') {
        let name = name.strip_prefix("cap_")?;
        set |= 1 << NAMES.iter().position(|known| *known == name)?;
    }
    if flags.is_empty() || flags.chars().any(|flag| !"eip".contains(flag)) {
        return None;
    }
    let of = |flag| if flags.contains(flag) { set } else { 0 };
    let magic = REVISION | if flags.contains('e') { EFFECTIVE } else { 0 };
    let half = |set: u64, shift: u32| {
        u32::try_from(set >> shift & u64::from(u32::MAX)).unwrap_or_default()
    };
    let words = [
        magic,
        half(of('p'), 0),
        half(of('i'), 0),
        half(of('p'), 32),
        half(of('i'), 32),
    ];
    Some(words.into_iter().flat_map(u32::to_le_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_what_setcap_writes() {
        for (text, expected) in [
            (
                "cap_net_raw+ep",
                Some("0100000200200000000000000000000000000000"),
            ),
            (
                "cap_net_admin,cap_bpf=p",
                Some("0000000200100000000000008000000000000000"),
            ),
            (
                "cap_chown+i",
                Some("0000000200000000010000000000000000000000"),
            ),
            ("cap_new+ep", None),
            ("cap_chown", None),
            ("cap_chown+x", None),
            ("AQAAAgAgAAA", None),
        ] {
            assert_eq!(parse(text).map(hex::encode).as_deref(), expected, "{text}");
        }
    }
}
