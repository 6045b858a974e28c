//! Rules about the initrd that the companions meet.

use super::{Found, Subject};

pub(super) fn lacks(subject: &Subject<'_>) -> Vec<Found> {
    let Some(facts) = subject.facts() else {
        return Vec::new();
    };
    // Without an extension nothing is lacking; a missing certificate has its own words at each image.
    if subject.model.extensions.is_empty() {
        return Vec::new();
    }
    let lacks = facts.lacks().into_iter();
    lacks
        .filter(|lack| !lack.what.starts_with("a certificate"))
        .map(|lack| {
            let reason = format!("its initrd lacks {}", lack.what);
            Found::new(subject.uki(), reason, lack.remedy)
        })
        .collect()
}

/// Where systemd looks for certificates.
const CERTIFICATES: [&[u8]; 4] = [
    b"etc/verity.d/",
    b"run/verity.d/",
    b"usr/local/lib/verity.d/",
    b"usr/lib/verity.d/",
];

pub(super) fn certificate_suffix(subject: &Subject<'_>) -> Vec<Found> {
    let files = subject
        .initrd()
        .into_iter()
        .flat_map(ukikit_sysext::Tree::iter);
    let misnamed = files.filter_map(|(path, _)| {
        let name = CERTIFICATES
            .iter()
            .find_map(|directory| path.strip_prefix(*directory))?;
        (name.ends_with(b".pem") || name.ends_with(b".cer")).then(|| String::from_utf8_lossy(path))
    });
    misnamed
        .map(|path| {
            let reason = format!("systemd does not read /{path} of its initrd: only *.crt counts");
            Found::new(
                subject.uki(),
                reason,
                "rename it to .crt when the initrd is built",
            )
        })
        .collect()
}
