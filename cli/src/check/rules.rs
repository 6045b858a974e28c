//! The table of rules.

use super::{
    Found, Level, Listing, Subject, credentials, extensions, initrd, names, rehearse, start, units,
};

/// One thing that can be wrong.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Rule {
    /// Its name, which never changes.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What it is about, in a line.
    pub about: &'static str,
    pub(super) look: Look,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Look {
    /// All directories of companions, once.
    Listing(fn(&Listing) -> Vec<Found>),
    /// One boot.
    Boot(fn(&Subject<'_>) -> Vec<Found>),
}

const fn esp(
    id: &'static str,
    level: Level,
    about: &'static str,
    find: fn(&Listing) -> Vec<Found>,
) -> Rule {
    let look = Look::Listing(find);
    Rule {
        id,
        level,
        about,
        look,
    }
}

const fn boot(
    id: &'static str,
    level: Level,
    about: &'static str,
    find: fn(&Subject<'_>) -> Vec<Found>,
) -> Rule {
    let look = Look::Boot(find);
    Rule {
        id,
        level,
        about,
        look,
    }
}

use Level::{Error, Note, Warning};

/// All rules, by what they are about.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    esp("name-not-taken", Error, "the stub leaves a companion alone for its name", names::not_taken),
    esp("stray-file", Note, "a file in a directory of companions is none", names::stray),
    esp("suffix-case", Error, "the stub takes a file that the initrd then ignores for the case of its suffix", names::suffix_case),
    esp("wrong-directory", Error, "a companion lies in the directory of another kind", names::wrong_directory),
    esp("counter-in-directory", Error, "a directory of companions has a boot counter in its name", names::counter),
    esp("no-uki", Warning, "a directory of companions belongs to no UKI", names::no_uki),
    esp("esp-space", Warning, "the ESP has no room to replace its largest file", names::space),
    esp("case-clash", Error, "two names differ only in case, which FAT does not hold", names::case_clash),

    boot("uki-unreadable", Error, "a UKI cannot be read", start::uki_unreadable),
    boot("profile-missing", Error, "a boot entry chooses a profile the UKI does not have", start::profile_missing),
    boot("options-ignored", Error, "a control character in the options of a boot entry makes the stub ignore them", start::options_ignored),
    boot("extra-missing", Error, "an extra line of a boot entry names nothing the loader takes", start::extra_missing),
    boot("addon-ignored", Error, "the stub does not use an addon", start::addon_ignored),
    boot("import-off", Error, "the command line keeps PID 1 from importing credentials", start::import_off),
    boot("userspace-verity-off", Warning, "the command line leaves signatures to the kernel's keyrings alone", start::userspace_verity_off),
    boot("image-policy-open", Warning, "the command line accepts unsigned images", start::image_policy_open),

    boot("initrd-lacks", Error, "the initrd lacks what merging extensions takes", initrd::lacks),
    boot("certificate-suffix", Warning, "a certificate does not end in .crt, so systemd does not read it", initrd::certificate_suffix),

    boot("credential-damaged", Error, "a file is no encrypted credential", credentials::damaged),
    boot("credential-encoding", Error, "the reader of a credential wants the other encoding", credentials::encoding),
    boot("credential-too-large", Error, "PID 1 skips a credential of more than 1 MiB", credentials::too_large),
    boot("credential-budget", Error, "PID 1 imports 1 MiB of credentials at most", credentials::budget),
    boot("credential-hidden", Warning, "a credential for all UKIs has the name of one of this UKI", credentials::hidden),
    boot("credential-type", Error, "the initrd's systemd does not know the type of a credential", credentials::kind),
    boot("credential-host-key", Error, "a credential wants the host's secret, which no initrd has", credentials::host_key),
    boot("credential-null-refused", Error, "the boot policy refuses a credential under the null key", credentials::null_refused),
    boot("credential-null", Warning, "anybody can make a credential under the null key", credentials::null),
    boot("credential-name", Error, "a credential was made for another name", credentials::name),
    boot("credential-expired", Error, "a credential has expired", credentials::expired),
    boot("credential-pcr", Error, "a credential is bound to a PCR that holds the credential itself", credentials::own_pcr),
    boot("credential-signature", Error, "no signature of the UKI opens a credential when its reader wants it", credentials::signature),
    boot("credential-tpm", Error, "a credential is sealed to another TPM", credentials::other_tpm),
    boot("credential-tpm-library", Error, "the initrd lacks the TPM libraries a credential needs", credentials::tpm_library),

    boot("image-damaged", Error, "an extension is no image, or a damaged one", extensions::damaged),
    boot("image-unsigned", Error, "an extension has no signature", extensions::unsigned),
    boot("image-untrusted", Error, "the initrd does not trust the signer of an extension", extensions::untrusted),
    boot("image-release-file", Error, "an extension has no release file of its name", extensions::release_file),
    boot("image-content", Error, "an extension holds what is not merged", extensions::content),
    boot("image-scope", Error, "an extension is not for initrds", extensions::scope),
    boot("image-release", Error, "an extension is for another system", extensions::release),
    boot("image-architecture", Error, "an extension is for another processor", extensions::architecture),
    boot("image-hidden", Warning, "an extension for all UKIs has the name of one of this UKI", extensions::hidden),
    boot("all-or-nothing", Error, "one image that cannot be used keeps the others out", extensions::all_or_nothing),
    boot("image-codec", Error, "the UKI's kernel cannot unpack an extension", extensions::codec),
    boot("extension-conflict", Error, "two extensions have one path with different content", extensions::conflict),
    boot("module-index", Error, "an extension's list of kernel modules leaves out those of the initrd", extensions::module_index),
    boot("base-replaced", Warning, "an extension replaces a file of the initrd", extensions::base_replaced),
    boot("directory-masked", Error, "an extension hides a directory of the initrd behind something else", extensions::directory_masked),
    boot("library-missing", Error, "a program of an extension needs a library that is nowhere", extensions::library_missing),
    boot("confext-read-only", Warning, "a confext makes /etc of the initrd read-only", extensions::confext_read_only),

    boot("wants-too-late", Error, "a .wants link in an extension starts nothing", units::wants_too_late),
    boot("reload-missing", Error, "units of an extension are never seen, as it does not reload the manager", units::reload_missing),
    boot("switch-root", Error, "the unmerge reloads the manager, which loses the root's mount", units::switch_root),
    boot("upheld-service", Warning, "a service that fails is started again for ever", units::upheld_service),
    boot("restart-unit-waits", Error, "a unit the merge waits for waits for the merge", units::restart_unit_waits),
    boot("restart-unit-of-base", Error, "the unmerge restarts a unit of the initrd", units::restart_unit_of_base),

    boot("rehearsal-merge", Error, "the initrd's own programs merge other extensions than expected", rehearse::merge),
    boot("rehearsal-generator", Warning, "a generator of the initrd fails", rehearse::generators),
];
