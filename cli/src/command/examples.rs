//! Examples, by hand: what `--help` shows below the options and what a man page ends with. Each is a command line that parses.

use clap::Command;

/// What somebody wants, and how they get it.
type Example = (&'static str, &'static str);

/// The examples of a verb, which is named as it is typed.
pub(super) fn of(verb: &str) -> &'static [Example] {
    let found = EXAMPLES.iter().find(|(name, _)| *name == verb);
    found.map_or(&[], |(_, examples)| examples)
}

/// Puts the examples below the help of each verb.
pub(super) fn shown(command: Command) -> Command {
    below(command, "")
}

fn below(command: Command, verb: &str) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let command = names.into_iter().fold(command, |command, name| {
        let verb = format!("{verb} {name}");
        command.mut_subcommand(name, |command| below(command, verb.trim_start()))
    });
    match of(verb) {
        [] => command,
        examples => command.after_long_help(text(examples)),
    }
}

fn text(examples: &[Example]) -> String {
    let shown = examples
        .iter()
        .map(|(what, line)| format!("  {what}:\n      {line}\n"));
    format!("Examples:\n{}", shown.collect::<Vec<_>>().join("\n"))
}

const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "cred encrypt",
        &[
            (
                "Seal a secret for a host whose identity file is here",
                "printf hunter2 | ukikit cred encrypt --for=web1.json - nbd.password.cred",
            ),
            (
                "Bind it to Secure Boot's state as well, and let it expire",
                "ukikit cred encrypt --tpm2-pcrs=7 --not-after=+90d password iscsi.password.cred",
            ),
            (
                "See what would be made for systemd 257, and make nothing",
                "ukikit cred encrypt --target-systemd=257 --for=web1.json --dry-run fstab fstab.extra.cred",
            ),
        ],
    ),
    (
        "cred decrypt",
        &[
            (
                "Open a credential with this machine's TPM",
                "ukikit cred decrypt nbd.password.cred -",
            ),
            (
                "Open one that was renamed",
                "ukikit cred decrypt --name=nbd.password backup.cred -",
            ),
        ],
    ),
    (
        "cred inspect",
        &[(
            "Who can open this, and who reads it",
            "ukikit cred inspect /efi/EFI/Linux/vendor.efi.extra.d/fstab.extra.cred",
        )],
    ),
    (
        "cred names",
        &[
            (
                "Which credential carries an SSH key for root",
                "ukikit cred names ssh.authorized_keys.root",
            ),
            (
                "All of them, for a program",
                "ukikit cred names --json=short",
            ),
        ],
    ),
    (
        "cred reencrypt",
        &[
            (
                "A new board in an old host",
                "ukikit cred reencrypt --for=new-board.json nbd.password.cred",
            ),
            (
                "For a generator of systemd before 262, which wants binary; takes no key",
                "ukikit cred reencrypt --encoding=binary fstab.extra.cred",
            ),
        ],
    ),
    (
        "cred carry",
        &[(
            "Make a host's credentials authentic",
            "ukikit cred carry --for=web1.json --generation=1 --not-after=+90d --private-key=signer.key --certificate=signer.crt --output=web1.sysext.raw nbd.password.cred",
        )],
    ),
    (
        "cred carried",
        &[(
            "Is this carrier for that host, and still good",
            "ukikit cred carried --for=web1.json --certificate=signer.crt web1.sysext.raw",
        )],
    ),
    (
        "tpm identity",
        &[(
            "Write what others need to seal for this machine",
            "ukikit tpm identity web1.json",
        )],
    ),
    (
        "tpm challenge",
        &[
            (
                "Ask whether an identity is that of a TPM",
                "ukikit tpm challenge web1.json --ca=maker.pem --output=challenge.json --secret=expected.json",
            ),
            (
                "Check the answer",
                "ukikit tpm challenge web1.json --ca=maker.pem --check=answer.json --secret=expected.json",
            ),
        ],
    ),
    (
        "tpm answer",
        &[(
            "Answer, on the host",
            "ukikit tpm answer challenge.json answer.json",
        )],
    ),
    (
        "ext build",
        &[
            (
                "iSCSI for the initrd of a vendor's UKI",
                "ukikit ext build --name=iscsi --recipe=network --recipe=iscsi --uki=vendor.efi --private-key=signer.key --certificate=signer.crt --output=iscsi.sysext.raw",
            ),
            (
                "A directory as it is",
                "ukikit ext build --name=greeting --tree=tree --private-key=signer.key --certificate=signer.crt --output=greeting.sysext.raw",
            ),
            (
                "What a dracut module has and the UKI lacks; tell what becomes of each file, write nothing",
                "ukikit ext build --name=lvm --dracut=lvm --uki=vendor.efi --private-key=signer.key --certificate=signer.crt --output=lvm.sysext.raw --explain --dry-run",
            ),
        ],
    ),
    (
        "ext digest",
        &[(
            "An image with room for a signature that is made elsewhere",
            "ukikit ext digest --name=greeting --tree=tree --certificate=signer.crt --output=greeting.sysext.raw --content=to-sign --digest=to-sign.sha256",
        )],
    ),
    (
        "ext attach",
        &[(
            "Put that signature in",
            "ukikit ext attach --certificate=signer.crt --signature=greeting.p7s greeting.sysext.raw",
        )],
    ),
    (
        "ext verify",
        &[
            (
                "Would the initrd of this UKI merge it",
                "ukikit ext verify --base=vendor.efi --certificate=signer.crt iscsi.sysext.raw",
            ),
            (
                "Was it built from this tree",
                "ukikit ext verify --certificate=signer.crt --rebuild-from=tree greeting.sysext.raw",
            ),
        ],
    ),
    (
        "ext inspect",
        &[(
            "Partitions, release, signer",
            "ukikit ext inspect iscsi.sysext.raw",
        )],
    ),
    (
        "ext list",
        &[(
            "Files with owner, mode and size",
            "ukikit ext list --long iscsi.sysext.raw",
        )],
    ),
    (
        "ext diff",
        &[(
            "What changed between two builds",
            "ukikit ext diff old.sysext.raw new.sysext.raw",
        )],
    ),
    (
        "addon build",
        &[
            (
                "A kernel option for one UKI, signed for Secure Boot",
                "ukikit addon build --cmdline=console=ttyS0 --uki=vendor.efi --secureboot-private-key=db.key --secureboot-certificate=db.crt --output=console.addon.efi",
            ),
            (
                "What the UKI lacks to merge extensions and to open sealed credentials, from this system's packages",
                "ukikit addon build --recipe=extensions --recipe=tpm2 --uki=vendor.efi --output=base.addon.efi",
            ),
        ],
    ),
    (
        "addon inspect",
        &[(
            "What an addon carries",
            "ukikit addon inspect console.addon.efi",
        )],
    ),
    (
        "addon verify",
        &[(
            "Would firmware that trusts this certificate load it",
            "ukikit addon verify --db=db.crt console.addon.efi",
        )],
    ),
    (
        "trust add",
        &[(
            "Let a vendor's initrd merge what you signed",
            "ukikit trust add --esp=/efi --uki=EFI/Linux/vendor.efi signer.crt",
        )],
    ),
    (
        "trust approve",
        &[(
            "Let what is bound to your key open under this UKI",
            "ukikit trust approve --esp=/efi --uki=EFI/Linux/vendor.efi --private-key=pcr.key --public-key=pcr.pub",
        )],
    ),
    (
        "trust status",
        &[(
            "Whom does this UKI trust, and why",
            "ukikit trust status --esp=/efi --uki=EFI/Linux/vendor.efi",
        )],
    ),
    (
        "esp place",
        &[
            (
                "A credential for one UKI",
                "ukikit esp place --uki=EFI/Linux/vendor.efi nbd.password.cred",
            ),
            (
                "An extension, verified against the initrd's own certificates; show, change nothing",
                "ukikit esp place --esp=/efi --uki=EFI/Linux/vendor.efi --dry-run iscsi.sysext.raw",
            ),
        ],
    ),
    (
        "esp list",
        &[(
            "What lies there, and what becomes of it",
            "ukikit esp list --esp=/efi",
        )],
    ),
    (
        "esp remove",
        &[(
            "Take an extension away",
            "ukikit esp remove --esp=/efi --uki=EFI/Linux/vendor.efi iscsi.sysext.raw",
        )],
    ),
    (
        "esp undo",
        &[("Take the last change back", "ukikit esp undo --esp=/efi")],
    ),
    (
        "esp gc",
        &[(
            "Show what nobody needs any more",
            "ukikit esp gc --esp=/efi --dry-run",
        )],
    ),
    (
        "pe sign",
        &[(
            "Sign a UKI",
            "ukikit pe sign --private-key=db.key --certificate=db.crt --output=vendor.signed.efi vendor.efi",
        )],
    ),
    (
        "pe digest",
        &[(
            "What a key that is elsewhere has to sign",
            "ukikit pe digest vendor.efi",
        )],
    ),
    (
        "pe attach",
        &[(
            "Put that signature in",
            "ukikit pe attach --certificate=db.crt --signature=vendor.p7s vendor.efi",
        )],
    ),
    (
        "pe verify",
        &[(
            "Is it signed by this certificate",
            "ukikit pe verify --certificate=db.crt vendor.signed.efi",
        )],
    ),
    (
        "host plan",
        &[(
            "What a host file makes for a host that is elsewhere",
            "ukikit host plan HOST.toml --esp=/efi --uki=EFI/Linux/vendor.efi --for=web1.json",
        )],
    ),
    (
        "host apply",
        &[(
            "Seal and place it on this machine, with the extension it needs",
            "ukikit host apply HOST.toml --esp=/efi --uki=EFI/Linux/vendor.efi --extension=iscsi.sysext.raw",
        )],
    ),
    (
        "host import",
        &[(
            "Write the host file that this system implies",
            "ukikit host import --root=/ HOST.toml",
        )],
    ),
    (
        "host recovery",
        &[(
            "A way into a host whose TPM was cleared: the tree, for `ukikit addon build --tree=` or `ukikit ext build --tree=`",
            "ukikit host recovery HOST.toml recovery",
        )],
    ),
    (
        "host schema",
        &[("For an editor that completes keys", "ukikit host schema")],
    ),
    (
        "fleet encrypt",
        &[(
            "Seal for all hosts of a file, with secrets from a pipe",
            "sops -d secrets.json | ukikit fleet encrypt FLEET.toml --output=out --secrets=-",
        )],
    ),
    (
        "fleet status",
        &[(
            "Does web1 have what was sealed for it",
            "ssh web1 ukikit esp list --json=short | ukikit fleet status --output=out --host=web1 -",
        )],
    ),
    (
        "fleet find",
        &[(
            "Which hosts still carry the old password",
            "ukikit fleet find --output=out --secret=iscsi.password FLEET.toml",
        )],
    ),
    (
        "fleet forget",
        &[(
            "A host that is gone",
            "ukikit fleet forget --output=out web1",
        )],
    ),
    (
        "check",
        &[
            (
                "What will go wrong at the next boot",
                "ukikit check --esp=/efi",
            ),
            (
                "The same, with the initrd's own programs asked",
                "ukikit check --esp=/efi --rehearse",
            ),
        ],
    ),
    (
        "predict",
        &[
            (
                "What the PCRs will be",
                "ukikit predict --esp=/efi --uki=EFI/Linux/vendor.efi",
            ),
            (
                "Which file made the last boot differ from that",
                "ukikit predict --esp=/efi --uki=EFI/Linux/vendor.efi --diff=/sys/kernel/security/tpm0/binary_bios_measurements",
            ),
        ],
    ),
    (
        "explain",
        &[
            ("What this boot made of the companions", "ukikit explain"),
            (
                "The same of a boot elsewhere",
                "ukikit explain --esp=esp --uki=EFI/Linux/vendor.efi --eventlog=eventlog --journal=journal.json",
            ),
        ],
    ),
    (
        "first-boot",
        &[
            ("Seal what is found, on this machine", "ukikit first-boot"),
            (
                "Show what an image of a volume would make of a host that is elsewhere",
                "ukikit first-boot --source=seed.iso --for=web1.json --esp=/efi --dry-run",
            ),
            (
                "Metadata of an installer, taken away afterwards",
                "ukikit first-boot --source=/run/installer/seed --wipe",
            ),
        ],
    ),
    (
        "uki inspect",
        &[(
            "What its initrd is, whom it trusts, what it lacks",
            "ukikit uki inspect vendor.efi",
        )],
    ),
    (
        "recipe list",
        &[("Which features are shipped", "ukikit recipe list")],
    ),
    (
        "recipe show",
        &[(
            "What iSCSI takes, starts and reads",
            "ukikit recipe show iscsi",
        )],
    ),
    (
        "completions",
        &[("For this shell alone", "ukikit completions bash")],
    ),
    (
        "man",
        &[("Into a package", "ukikit man debian/tmp/usr/share/man/man1")],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::definition;
    use super::EXAMPLES;

    #[test]
    fn each_example_is_of_its_verb_and_parses() {
        for (verb, examples) in EXAMPLES {
            for (_, line) in *examples {
                // They quote nothing, and a pipe ends in ukikit.
                let last = line.split(" | ").last().unwrap();
                assert!(last.starts_with(&format!("ukikit {verb}")), "{line}");
                let parsed = definition().try_get_matches_from(last.split(' '));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }
}
