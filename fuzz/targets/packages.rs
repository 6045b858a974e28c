//! Any bytes as what packages are known by - a record, dpkg's and rpm's databases, a program with a note: no panic, and
//! a record comes back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_sysext::{Entry, PackageDatabase, PackageRecord, Tree};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = PackageRecord::parse(bytes) {
        assert_eq!(PackageRecord::parse(&record.to_json()).unwrap(), record);
    }
    let mut tree = Tree::new();
    tree.insert("usr/lib/x.so", Entry::file(bytes)).unwrap();
    tree.insert("usr/bin/ping", Entry::file("")).unwrap();
    for database in [
        PackageDatabase::of_dpkg(bytes, |_| Some(b"/bin/ping\n".to_vec())),
        PackageDatabase::of_rpm(bytes),
    ] {
        let record = PackageRecord::of(&tree, Some(&database)).unwrap();
        if let Some(record) = record {
            assert_eq!(PackageRecord::parse(&record.to_json()).unwrap(), record);
        }
    }
});
