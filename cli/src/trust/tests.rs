//! Whom an initrd trusts, and the addons that change it.

use super::*;

fn certificate(name: &str) -> Certificate {
    Certificate::from_pem(&pem(name)).unwrap()
}

fn pem(name: &str) -> Vec<u8> {
    let keys = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ddi/keys");
    std::fs::read(keys.join(name)).unwrap()
}

fn tree(entries: &[(&str, Entry)]) -> Tree {
    let mut tree = Tree::new();
    for (path, entry) in entries {
        tree.insert(path, entry.clone()).unwrap();
    }
    tree
}

/// Fingerprint, path, addon.
fn told(uki: &Tree, addons: &[(String, Tree)]) -> Vec<(String, String, Option<String>)> {
    let tell = |one: Trusted| (one.fingerprint, one.path, one.addon);
    trusted(uki, addons).into_iter().map(tell).collect()
}

#[test]
fn an_addon_trusts_besides_and_hides() {
    let (vendor, admin) = (certificate("rsa2048.crt"), certificate("p256.crt"));
    let uki = tree(&[(
        "usr/lib/verity.d/vendor.crt",
        Entry::file(pem("rsa2048.crt")),
    )]);
    let path = |certificate: &Certificate| {
        format!("/usr/lib/verity.d/ukikit-{}.crt", certificate.fingerprint())
    };
    let vendors = (
        vendor.fingerprint(),
        "/usr/lib/verity.d/vendor.crt".to_owned(),
        None,
    );
    let name = "loader/addons/extension-trust.addon.efi".to_owned();
    let admins = (admin.fingerprint(), path(&admin), Some(name.clone()));
    assert_eq!(told(&uki, &[]), std::slice::from_ref(&vendors));

    let mut addon = TrustAddon::default();
    addon.add(admin.clone());
    addon.add(admin.clone());
    let layer = |addon: &TrustAddon| [(name.clone(), addon.tree().unwrap())];
    let mut both = vec![admins.clone(), vendors];
    both.sort_by_key(|(_, path, _)| path.clone());
    assert_eq!(told(&uki, &layer(&addon)), both);

    addon.hide(&vendor, &uki);
    assert_eq!(told(&uki, &layer(&addon)), [admins]);

    let mut again = TrustAddon::of_tree(&addon.tree().unwrap());
    assert_eq!(again.trusted.len(), 1);
    assert_eq!(again.hidden, BTreeSet::from(["vendor.crt".to_owned()]));
    again.withdraw(&admin);
    assert_eq!(told(&uki, &layer(&again)), []);
    assert!(!again.is_empty());
}

#[test]
fn of_files_with_one_name_the_first_counts() {
    let uki = tree(&[
        ("etc/verity.d/a.crt", Entry::file("")),
        ("usr/lib/verity.d/a.crt", Entry::file(pem("rsa2048.crt"))),
        ("usr/lib/verity.d/b.crt", Entry::file("rubbish")),
        ("usr/lib/verity.d/c.pem", Entry::file(pem("p256.crt"))),
    ]);
    assert_eq!(told(&uki, &[]), []);
}

#[test]
fn the_last_word_on_the_command_line_counts() {
    for (line, expected) in [
        ("quiet", true),
        ("systemd.allow_userspace_verity=no quiet", false),
        (
            "systemd.allow_userspace_verity=0 systemd.allow_userspace_verity=1",
            true,
        ),
    ] {
        assert_eq!(checked_in_user_space(line), expected, "{line}");
    }
}

#[test]
fn a_configuration_tells_whose_keys_the_kernel_takes() {
    let text = "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG=y\nCONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING=y\n\
                CONFIG_INTEGRITY_PLATFORM_KEYRING=y\n";
    let kernel = KernelTrust::of_configuration("config", text);
    assert_eq!(kernel.built_in, Configured::Yes);
    assert_eq!(kernel.secondary, Configured::No);
    assert_eq!(
        kernel.platform,
        Configured::No,
        "nothing loads the firmware's keys"
    );
    let loads = format!("{text}CONFIG_LOAD_UEFI_KEYS=y\n");
    assert_eq!(
        KernelTrust::of_configuration("config", &loads).platform,
        Configured::Yes
    );
    let initrd = tree(&[("usr/lib/modules/6.18.0/config", Entry::file(loads))]);
    assert_eq!(
        KernelTrust::of_initrd(&initrd).configuration.as_deref(),
        Some("/usr/lib/modules/6.18.0/config")
    );
    assert_eq!(KernelTrust::of_initrd(&Tree::new()), KernelTrust::unknown());
}
