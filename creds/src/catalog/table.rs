//! The catalog's data: systemd.system-credentials(7) of 262, its unit files, and what its programs were seen to do.

use super::Acts;
use super::Reader::{self, Generator, Manager, Service};
use crate::content::Content::{
    self, Bytes, Fstab, HashedPassword, HostName, Json, MachineId, Path, Pulls, SshKeys, Sysctl,
    Sysusers, Text, Tmpfiles, UdevRules, Unit, Value, Word,
};

/// Pattern, first systemd, where it acts, content, what it does.
type Row = (&'static str, u16, Acts, Content, &'static str);

const HOST: Acts = Acts {
    initrd: false,
    host: true,
    root: false,
};
const BOTH: Acts = Acts {
    initrd: true,
    host: true,
    root: false,
};
const BOTH_ROOT: Acts = Acts {
    initrd: true,
    host: true,
    root: true,
};
const INITRD_ROOT: Acts = Acts {
    initrd: true,
    host: false,
    root: true,
};

/// Every entry, under the reader it belongs to.
#[rustfmt::skip]
pub(super) const READERS: &[(Reader, &str, &[Row])] = &[
    (Generator, "systemd-fstab-generator", &[
        ("fstab.extra", 254, BOTH_ROOT, Fstab, "more lines of fstab; in the initrd those for /, /usr and with x-initrd.mount, below /sysroot"),
        ("fstab.extra.initrd", 254, INITRD_ROOT, Fstab, "more lines of fstab for the initrd itself, whose root to be is /sysroot"),
    ]),
    (Generator, "systemd-debug-generator", &[
        ("systemd.extra-unit.*", 256, BOTH_ROOT, Unit, "a unit that goes before all others of its name; empty masks it"),
        ("systemd.unit-dropin.*", 256, BOTH_ROOT, Unit, "a drop-in for the unit UNIT, named UNIT or UNIT~NAME"),
    ]),
    (Generator, "systemd-import-generator", &[
        ("import.pull", 257, BOTH_ROOT, Pulls, "images to download, as in systemd.pull="),
    ]),
    (Generator, "systemd-ssh-generator", &[
        ("ssh.listen", 256, BOTH, Text, "addresses for sshd to listen on"),
    ]),
    (Generator, "systemd-getty-generator", &[
        ("getty.ttys.serial", 254, HOST, Text, "terminals to log in on"),
        ("getty.ttys.container", 254, HOST, Text, "pseudo terminals to log in on"),
        ("getty.auto", 258, HOST, Text, "which terminals are found by themselves"),
    ]),
    (Manager, "systemd, as PID 1", &[
        ("system.machine_id", 254, BOTH, MachineId, "the machine ID, if there is none yet"),
        ("system.hostname", 254, BOTH, HostName, "the host name, if there is none yet"),
        ("vmm.notify_socket", 253, BOTH, Value, "where the virtual machine monitor wants to hear that the boot is done"),
    ]),
    (Service, "systemd-cryptsetup@.service", &[
        ("cryptsetup.passphrase", 256, BOTH, Bytes, "the passphrase of every encrypted volume"),
        ("cryptsetup.tpm2-pin", 256, BOTH, Bytes, "the PIN of volumes bound to the TPM"),
        ("cryptsetup.fido2-pin", 256, BOTH, Bytes, "the PIN of the FIDO2 token"),
        ("cryptsetup.pkcs11-pin", 256, BOTH, Bytes, "the PIN of the PKCS#11 token"),
        ("cryptsetup.luks2-pin", 256, BOTH, Bytes, "the PIN of other tokens"),
        ("pcrlock.*", 256, BOTH, Bytes, "the policy that systemd-pcrlock made, under the null key"),
    ]),
    (Service, "systemd-network-generator.service", &[
        ("network.network.*", 256, BOTH, Unit, "a .network file for systemd-networkd"),
        ("network.netdev.*", 256, BOTH, Unit, "a .netdev file for systemd-networkd"),
        ("network.link.*", 256, BOTH, Unit, "a .link file for systemd-udevd"),
        ("network.conf.*", 256, BOTH, Unit, "a drop-in of networkd.conf"),
    ]),
    (Service, "systemd-networkd.service", &[
        ("network.wireguard.*", 256, BOTH, Bytes, "keys that .netdev files name with @"),
    ]),
    (Service, "systemd-resolved.service", &[
        ("network.dns", 253, BOTH, Text, "addresses of name servers"),
        ("network.search_domains", 253, BOTH, Text, "domains to search in"),
    ]),
    (Service, "systemd-tmpfiles-setup.service", &[
        ("tmpfiles.extra", 252, BOTH, Tmpfiles, "more lines of tmpfiles.d"),
        ("network.hosts", 252, BOTH, Text, "the content of /etc/hosts"),
        ("ssh.authorized_keys.root", 252, BOTH, SshKeys, "who may log in as root"),
        ("login.issue", 252, HOST, Text, "what is shown before logging in"),
        ("login.motd", 252, HOST, Text, "what is shown after logging in"),
    ]),
    (Service, "systemd-udev-load-credentials.service", &[
        ("udev.rules.*", 256, BOTH, UdevRules, "a file of udev rules"),
        ("udev.conf.*", 256, BOTH, Text, "a drop-in of udev.conf"),
    ]),
    (Service, "systemd-sysusers.service", &[
        ("sysusers.extra", 252, BOTH, Sysusers, "more lines of sysusers.d"),
    ]),
    (Service, "systemd-sysusers.service and systemd-firstboot.service", &[
        ("passwd.hashed-password.*", 249, BOTH, HashedPassword, "the hash of a user's password"),
        ("passwd.plaintext-password.*", 249, BOTH, Value, "a user's password"),
        ("passwd.shell.*", 249, BOTH, Path, "a user's shell"),
    ]),
    (Service, "systemd-sysctl.service", &[
        ("sysctl.extra", 252, BOTH, Sysctl, "more lines of sysctl.d"),
    ]),
    (Service, "systemd-vconsole-setup.service", &[
        ("vconsole.keymap", 253, BOTH, Value, "the keyboard of the console"),
        ("vconsole.keymap_toggle", 253, BOTH, Value, "its second keyboard"),
        ("vconsole.font", 253, BOTH, Value, "the console's font"),
        ("vconsole.font_map", 253, BOTH, Value, "the console's map"),
        ("vconsole.font_unimap", 253, BOTH, Value, "the console's Unicode map"),
        ("vconsole.font_scale", 262, BOTH, Value, "how large the console's font is drawn"),
    ]),
    (Service, "systemd-fsck@.service", &[
        ("fsck.mode", 258, BOTH, Word(&["auto", "force", "skip"]), "whether file systems are checked, as fsck.mode="),
        ("fsck.repair", 258, BOTH, Word(&["preen", "yes", "no"]), "whether they are repaired, as fsck.repair="),
    ]),
    (Service, "systemd-quotacheck@.service", &[
        ("quotacheck.mode", 258, HOST, Word(&["auto", "force", "skip"]), "whether quotas are checked"),
    ]),
    (Service, "systemd-journald.service", &[
        ("journal.storage", 256, BOTH, Word(&["volatile", "persistent", "auto", "none"]), "where the journal is kept"),
        ("journal.forward_to_socket", 256, BOTH, Value, "where the journal is sent"),
    ]),
    (Service, "sshd, on the sockets of systemd-ssh-generator", &[
        ("ssh.ephemeral-authorized_keys-all", 256, HOST, SshKeys, "who may log in as anybody in this boot"),
    ]),
    (Service, "systemd-firstboot.service", &[
        ("firstboot.locale", 252, HOST, Value, "the language, on the first boot"),
        ("firstboot.locale-messages", 252, HOST, Value, "the language of messages, on the first boot"),
        ("firstboot.keymap", 252, HOST, Value, "the keyboard, on the first boot"),
        ("firstboot.timezone", 252, HOST, Value, "the time zone, on the first boot"),
        ("firstboot.hostname", 261, HOST, HostName, "the host name, on the first boot"),
        ("firstboot.machine-tags", 261, HOST, Value, "the tags of the machine, on the first boot"),
    ]),
    (Service, "getty@.service and the other getty units", &[
        ("agetty.*", 254, HOST, Bytes, "settings of agetty, on every terminal"),
        ("login.*", 254, HOST, Bytes, "settings of login, on every terminal"),
        ("tty.*", 254, HOST, Bytes, "tty.KIND.TTY.agetty.* and tty.KIND.TTY.login.*: settings on one terminal"),
        ("shell.prompt.prefix", 257, HOST, Text, "what goes before the shell's prompt"),
        ("shell.prompt.suffix", 257, HOST, Text, "what goes behind the shell's prompt"),
        ("shell.welcome", 257, HOST, Text, "what a shell greets with"),
    ]),
    (Service, "systemd-homed-firstboot.service", &[
        ("home.create.*", 256, HOST, Json, "a user to make a home for"),
        ("home.register.*", 258, HOST, Json, "a user whose home there is"),
        ("home.add-signing-key.*", 258, HOST, Text, "whose signature on user records counts"),
    ]),
    (Service, "systemd-userdb-load-credentials.service", &[
        ("userdb.user.*", 258, HOST, Json, "a user record"),
        ("userdb.group.*", 258, HOST, Json, "a group record"),
        ("userdb.transient.*", 258, HOST, Json, "a record that is gone after this boot"),
    ]),
    (Service, "systemd-imdsd@.service", &[
        ("imds.*", 261, BOTH, Bytes, "how to ask the cloud's metadata service"),
    ]),
    (Service, "systemd-udevd.service", &[
        ("wol.password", 250, BOTH, Value, "the password to wake the machine over the network"),
        ("*.link.wol.password", 250, BOTH, Value, "the same for the network devices of one .link file"),
    ]),
];

/// What goes wrong with one of them.
pub(super) const TRAPS: &[(&str, &str)] = &[
    (
        "fstab.extra",
        "a line for / counts only without root= on the kernel command line; 262 drops a line without a type and says nothing",
    ),
    (
        "systemd.extra-unit.*",
        "the unit is readable to everybody in /run: no secrets in it",
    ),
    (
        "systemd.unit-dropin.*",
        "the drop-in is readable to everybody in /run: no secrets in it",
    ),
    ("import.pull", "the initrd downloads from systemd 258 on"),
    (
        "cryptsetup.passphrase",
        "one value for all volumes; a newline at its end is a part of it",
    ),
    (
        "pcrlock.*",
        "it is not imported but looked for beside all others, whatever its name after the prefix",
    ),
    (
        "network.conf.*",
        "the unit of 262 imports none: it takes a drop-in with ImportCredential=network.conf.*",
    ),
    (
        "tmpfiles.extra",
        "credentials that its lines name have to begin with tmpfiles. or be imported by a drop-in",
    ),
    (
        "passwd.hashed-password.*",
        "the units import root's alone: other users take a drop-in with ImportCredential=",
    ),
    (
        "passwd.plaintext-password.*",
        "the units import root's alone: other users take a drop-in with ImportCredential=",
    ),
    (
        "passwd.shell.*",
        "the units import root's alone: other users take a drop-in with ImportCredential=",
    ),
    (
        "wol.password",
        "the unit imports none: it takes a drop-in with ImportCredential=",
    ),
    (
        "*.link.wol.password",
        "the unit imports none: it takes a drop-in with ImportCredential=",
    ),
];
