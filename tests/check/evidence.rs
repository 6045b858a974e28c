//! For each rule, how it is known that systemd behaves so. `docs/rules/ID.md` tells it in words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ukikit::check::RULES;

/// Where it was seen.
enum Evidence {
    /// In a boot of `tests/boot` that is made with the tests.
    Boot(&'static str),
    /// In boots that were recorded: what the stub made of an ESP stands in `tests/vectors/stub/NAME`.
    Recorded(&'static str),
    /// In boots of systemd 262 in a virtual machine, or by its programs or Linux given such files, written down on the rule's page.
    Seen,
    /// It follows from the bytes alone: an unreadable file, a name FAT does not have.
    Arithmetic,
}

use Evidence::{Arithmetic, Boot, Recorded, Seen};

#[rustfmt::skip]
const EVIDENCE: &[(&str, Evidence)] = &[
    ("name-not-taken", Recorded("names-and-padding")),
    ("stray-file", Recorded("global")),
    ("suffix-case", Recorded("names-and-padding")),
    ("wrong-directory", Recorded("global")),
    ("counter-in-directory", Recorded("both-and-addons")),
    ("no-uki", Arithmetic),
    ("case-clash", Arithmetic),
    ("esp-space", Arithmetic),
    ("uki-unreadable", Arithmetic),
    ("profile-missing", Arithmetic),
    ("options-ignored", Boot("lab_options_with_a_tab_are_measured_as_predicted")),
    ("extra-missing", Recorded("entry-extras")),
    ("addon-ignored", Recorded("both-and-addons")),
    ("import-off", Boot("a_closed_boot_takes_credentials_from_the_carrier_alone")),
    ("userspace-verity-off", Boot("lab_without_user_space_no_certificate_of_the_initrd_counts")),
    ("image-policy-open", Seen),
    ("initrd-lacks", Seen),
    ("certificate-suffix", Seen),
    ("credential-damaged", Seen),
    ("credential-encoding", Seen),
    ("credential-too-large", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-budget", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-hidden", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-type", Seen),
    ("credential-host-key", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-null-refused", Seen),
    ("credential-null", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-name", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-expired", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-pcr", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-signature", Seen),
    ("credential-tpm", Boot("lab_pid_1_imports_what_the_model_says")),
    ("credential-tpm-library", Seen),
    ("image-damaged", Seen),
    ("image-unsigned", Boot("lab_one_bad_image_keeps_all_out")),
    ("image-untrusted", Seen),
    ("image-release-file", Seen),
    ("image-content", Seen),
    ("image-scope", Boot("lab_what_does_not_fit_is_skipped_and_the_rest_is_merged")),
    ("image-release", Boot("lab_what_does_not_fit_is_skipped_and_the_rest_is_merged")),
    ("image-architecture", Boot("lab_what_does_not_fit_is_skipped_and_the_rest_is_merged")),
    ("image-hidden", Boot("lab_what_does_not_fit_is_skipped_and_the_rest_is_merged")),
    ("all-or-nothing", Boot("lab_one_bad_image_keeps_all_out")),
    ("image-codec", Seen),
    ("extension-conflict", Boot("lab_layers_do_what_the_model_says")),
    ("module-index", Seen),
    ("base-replaced", Boot("lab_layers_do_what_the_model_says")),
    ("directory-masked", Boot("lab_layers_do_what_the_model_says")),
    ("library-missing", Boot("lab_layers_do_what_the_model_says")),
    ("confext-read-only", Boot("lab_layers_do_what_the_model_says")),
    ("wants-too-late", Boot("lab_layers_do_what_the_model_says")),
    ("reload-missing", Boot("lab_what_does_not_fit_is_skipped_and_the_rest_is_merged")),
    ("switch-root", Seen),
    ("upheld-service", Seen),
    ("restart-unit-waits", Seen),
    ("restart-unit-of-base", Seen),
    ("rehearsal-merge", Boot("the_initrd_itself_merges_what_is_expected")),
    ("rehearsal-generator", Boot("the_initrd_itself_merges_what_is_expected")),
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_rule_has_its_evidence_and_its_page() {
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    let known: BTreeSet<&str> = EVIDENCE.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(rules, known);
    assert_eq!(rules.len(), RULES.len(), "an id is used twice");
    for rule in RULES {
        let path = top().join(format!("docs/rules/{}.md", rule.id));
        let page = fs::read_to_string(&path).unwrap_or_else(|_| panic!("no page for {}", rule.id));
        let head = format!("# {}\n\n{}: {}.\n", rule.id, rule.level, rule.about);
        assert!(
            page.starts_with(&head),
            "{}: begins otherwise than\n{head}",
            rule.id
        );
        for heading in [
            "\n## Why\n",
            "\n## What to do\n",
            "\n## How it was verified\n",
        ] {
            assert!(page.contains(heading), "{}: lacks {heading}", rule.id);
        }
    }
    let pages = fs::read_dir(top().join("docs/rules")).unwrap().count();
    assert_eq!(pages, RULES.len() + 1, "a page of no rule");
}

#[test]
fn evidence_is_where_it_is_said_to_be() {
    let boots = ["boot.rs", "measured.rs", "rules.rs"]
        .map(|file| fs::read_to_string(top().join("tests/boot").join(file)).unwrap_or_default());
    for (rule, evidence) in EVIDENCE {
        match evidence {
            Boot(name) => {
                let function = format!("fn {name}()");
                assert!(boots.iter().any(|file| file.contains(&function)), "{rule}");
            }
            Recorded(name) => {
                let vector = top().join(format!("tests/vectors/stub/{name}/vector.json"));
                assert!(vector.exists(), "{rule}");
            }
            Seen | Arithmetic => {}
        }
    }
}
