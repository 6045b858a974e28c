//! The words of a host file: each is checked when it is read, so that a wrong one cannot exist.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;
use ukikit_creds::catalog::WellKnown;

/// A text with a rule. It is read with its place in the file, so a refusal has file and line.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident: $rule:path;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// As it stands in the file.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                match $rule(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(rule) => Err(format!("{text:?}: {rule}")),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

words! {
    /// A host name.
    HostName: host_name;
    /// A machine ID: 32 hexadecimal digits.
    MachineId: machine_id;
    /// A device as fstab names it: `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=`, or a path.
    Device: device;
    /// What is mounted: a device, or what its file system calls a source.
    MountSource: printable;
    /// An absolute path without `.` and `..`.
    AbsolutePath: absolute_path;
    /// A file system, such as `ext4`.
    FsType: token;
    /// One option of mount(8) or crypttab(5), such as `ro` or `subvol=@`.
    MountOption: option;
    /// A name without white space, such as a user's at an iSCSI target.
    Token: token;
    /// The name of a network interface, or a pattern of names; `*` is every Ethernet interface.
    InterfaceName: interface_name;
    /// A hardware address, such as `52:54:00:12:34:56`.
    MacAddress: mac_address;
    /// An address with the length of its prefix, such as `192.0.2.10/24`.
    AddressWithPrefix: address_with_prefix;
    /// An IPv4 or IPv6 address.
    Address: address;
    /// An address or a host name.
    Server: server;
    /// The name of an iSCSI node: `iqn.…`, `eui.…` or `naa.…`.
    IscsiName: iscsi_name;
    /// Address and port of an iSCSI target, such as `192.0.2.7:3260`; the port is 3260 unless given.
    Portal: portal;
    /// An NVMe qualified name: `nqn.…`.
    Nqn: nqn;
    /// The name of an unlocked volume, below `/dev/mapper/`.
    VolumeName: volume_name;
    /// The full name of a unit, such as `hello.service`.
    UnitName: unit_name;
    /// The name of a credential.
    CredentialName: credential_name;
    /// The name of a recipe.
    RecipeName: token;
}

impl Portal {
    /// The address, an IPv6 one in brackets, and the port.
    pub(crate) fn parts(&self) -> (String, u16) {
        match self.0.parse::<SocketAddr>() {
            Ok(SocketAddr::V4(at)) => (at.ip().to_string(), at.port()),
            Ok(SocketAddr::V6(at)) => (format!("[{}]", at.ip()), at.port()),
            Err(_) => (self.0.clone(), ISCSI_PORT),
        }
    }
}

/// RFC 7143, 13.
const ISCSI_PORT: u16 = 3260;

type Verdict = Result<(), &'static str>;

fn ensure(holds: bool, rule: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(rule) }
}

/// What systemd says of the content of a credential.
fn as_credential(name: &str, text: &str) -> Verdict {
    let known = name.parse().ok().as_ref().and_then(WellKnown::find);
    let verdict = known.map_or(Ok(()), |known| known.content.check(text.as_bytes()));
    verdict.map_err(|violation| violation.what)
}

fn host_name(text: &str) -> Verdict {
    as_credential("system.hostname", text)
}

fn machine_id(text: &str) -> Verdict {
    as_credential("system.machine_id", text)
}

fn printable(text: &str) -> Verdict {
    ensure(!text.is_empty(), "it is empty")?;
    ensure(
        !text.contains(char::is_control),
        "it has a control character",
    )
}

fn token(text: &str) -> Verdict {
    printable(text)?;
    ensure(!text.contains(char::is_whitespace), "it has white space")
}

const TAGS: [&str; 4] = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="];

fn device(text: &str) -> Verdict {
    printable(text)?;
    let tag = TAGS.iter().find_map(|tag| text.strip_prefix(tag));
    match tag {
        Some(value) => ensure(!value.is_empty(), "nothing stands behind the `=`"),
        None => ensure(
            text.strip_prefix("/dev/")
                .is_some_and(|rest| !rest.is_empty()),
            "a device is named by UUID=, LABEL=, PARTUUID=, PARTLABEL= or its path below /dev",
        ),
    }
}

fn absolute_path(text: &str) -> Verdict {
    printable(text)?;
    let inside = text.strip_prefix('/').ok_or("it is not an absolute path")?;
    let plain = |name: &str| !matches!(name, "" | "." | "..");
    ensure(
        inside.is_empty() || inside.split('/').all(plain),
        "it has an empty component, `.` or `..`",
    )
}

fn option(text: &str) -> Verdict {
    token(text)?;
    ensure(
        !text.contains(','),
        "it has a comma: give each option by itself",
    )
}

fn interface_name(text: &str) -> Verdict {
    token(text)?;
    // IFNAMSIZ counts the NUL.
    ensure(
        text.len() <= 15,
        "it is longer than the 15 characters of an interface",
    )?;
    ensure(
        !text.contains(['/', ':']),
        "an interface has no `/` and no `:`",
    )
}

fn mac_address(text: &str) -> Verdict {
    let octet =
        |octet: &str| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure(
        text.split(':').count() == 6 && text.split(':').all(octet),
        "it is no hardware address such as 52:54:00:12:34:56",
    )
}

fn address_with_prefix(text: &str) -> Verdict {
    let rule = "it is no address with the length of its prefix, such as 192.0.2.10/24";
    let (address, length) = text.split_once('/').ok_or(rule)?;
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return Err(rule),
    };
    let length = length.parse::<u8>().map_err(|_| rule)?;
    ensure(length <= most, "its prefix is longer than the address")
}

fn address(text: &str) -> Verdict {
    let parsed = text.parse::<IpAddr>();
    ensure(parsed.is_ok(), "it is no IPv4 or IPv6 address")
}

fn server(text: &str) -> Verdict {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    host_name(text)
}

/// RFC 7143, 4.2.7.
fn iscsi_name(text: &str) -> Verdict {
    let typed = ["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| text.starts_with(kind));
    ensure(
        typed,
        "the name of an iSCSI node begins with iqn., eui. or naa.",
    )?;
    ensure(
        text.len() <= 223,
        "it is longer than the 223 characters of an iSCSI name",
    )?;
    let allowed =
        |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || "-.:".contains(char);
    let rest = text.get(4..).unwrap_or_default();
    let hexadecimal =
        !text.starts_with("iqn.") && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure(
        hexadecimal || text.chars().all(allowed),
        "an iSCSI name has lower-case letters, digits, `-`, `.` and `:`",
    )
}

fn portal(text: &str) -> Verdict {
    let bare = text
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_ipv4());
    ensure(
        bare || text.parse::<SocketAddr>().is_ok(),
        "it is no address with a port, such as 192.0.2.7:3260 or [2001:db8::7]:3260",
    )
}

/// NVM Express Base Specification 2.0, 4.5.
fn nqn(text: &str) -> Verdict {
    token(text)?;
    ensure(
        text.starts_with("nqn."),
        "an NVMe qualified name begins with nqn.",
    )?;
    // The kernel separates what it is told by commas.
    ensure(!text.contains(','), "it has a comma")?;
    ensure(
        text.len() <= 223,
        "it is longer than the 223 characters of such a name",
    )
}

fn volume_name(text: &str) -> Verdict {
    let allowed = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
    ensure(
        text.starts_with(|char: char| char.is_ascii_alphanumeric()) && text.chars().all(allowed),
        "a volume's name has letters, digits, `_`, `-` and `.`, and begins with a letter or digit",
    )?;
    // Device mapper takes 127; its name becomes part of a file name as well.
    ensure(text.len() <= 100, "it is longer than 100 characters")
}

fn unit_name(text: &str) -> Verdict {
    credential_name(&format!("systemd.extra-unit.{text}"))
}

/// A name that PID 1 and FAT take, and that its reader takes.
fn credential_name(text: &str) -> Verdict {
    let name = text.parse::<ukikit_creds::Name>();
    let name = name.map_err(|_| "no credential can have this name")?;
    let fits = format!("{name}.cred").parse::<ukikit_esp::Name>().is_ok();
    ensure(
        fits,
        "the EFI system partition cannot hold a file of this name",
    )?;
    let sound = WellKnown::find(&name).map_or(Ok(()), |known| known.check_name(&name));
    sound.map_err(|violation| violation.what)
}
