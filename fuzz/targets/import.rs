//! Any files as those of a system, separated by NUL: no panic, and a host file that is not whole is never passed off as one.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ukikit::host::HostFile;
use ukikit::host::import::{System, TextFile, import};

fuzz_target!(|text: &str| {
    let mut texts = text.split('\0').map(ToOwned::to_owned);
    let mut next = || texts.next().unwrap_or_default();
    let file = |path: &str, text| TextFile {
        path: path.to_owned(),
        text,
    };
    let mut system = System::default();
    system.command_line = next();
    system.fstab = next();
    system.crypttab = next();
    system.initiator = next();
    system.iscsi_nodes = vec![
        file("/etc/iscsi/nodes/a", next()),
        file("/etc/iscsi/nodes/b", next()),
    ];
    system.connections = vec![
        file("/connections/a", next()),
        file("/connections/b", next()),
    ];
    let (host, left) = import(&system);
    let whole = HostFile::parse(&host.to_string(), Path::new("HOST.toml"));
    let said = left.iter().any(|left| left.place == "the host file");
    assert_eq!(whole.is_err(), said);
});
