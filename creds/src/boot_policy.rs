//! `BootPolicy`: whether a null key is taken when the caller says nothing (systemd 262; before it was always `relaxed`).

/// The value of `systemd.credentials_boot_policy=` on the kernel command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootPolicy {
    /// Never.
    Strict,
    /// On first boot, or without a TPM.
    Tofu,
    /// With Secure Boot off, or without a TPM.
    #[default]
    Relaxed,
    /// Always.
    Off,
}

/// What the policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootFacts {
    /// The firmware enforces Secure Boot.
    pub secure_boot: bool,
    /// The firmware knows a TPM 2.0.
    pub tpm: bool,
    /// This is the machine's first boot.
    pub first_boot: bool,
}

impl BootPolicy {
    /// The policy that a kernel command line sets: the last one counts, with or without the `rd.` prefix; unknown words are
    /// `relaxed`.
    pub fn from_command_line(line: &str) -> Self {
        let options = line
            .split_ascii_whitespace()
            .map(|option| option.strip_prefix("rd.").unwrap_or(option));
        let mut values =
            options.filter_map(|option| option.strip_prefix("systemd.credentials_boot_policy="));
        match values.next_back() {
            Some("strict") => Self::Strict,
            Some("tofu") => Self::Tofu,
            Some("off") => Self::Off,
            _ => Self::Relaxed,
        }
    }

    /// Whether a credential under the null key is taken.
    pub fn accepts_null(self, facts: BootFacts) -> bool {
        match self {
            Self::Strict => false,
            Self::Tofu => facts.first_boot || !facts.tpm,
            Self::Relaxed => !facts.secure_boot || !facts.tpm,
            Self::Off => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_the_command_line_counts() {
        let prefix = "systemd.credentials_boot_policy=";
        assert_eq!(BootPolicy::from_command_line("quiet"), BootPolicy::Relaxed);
        assert_eq!(
            BootPolicy::from_command_line(&format!("{prefix}strict rd.{prefix}tofu")),
            BootPolicy::Tofu
        );
        assert_eq!(
            BootPolicy::from_command_line(&format!("{prefix}no-such-word")),
            BootPolicy::Relaxed
        );
    }

    #[test]
    fn each_policy_looks_at_its_facts() {
        let facts = |secure_boot, tpm, first_boot| BootFacts {
            secure_boot,
            tpm,
            first_boot,
        };
        for (policy, facts, taken) in [
            (BootPolicy::Strict, facts(false, false, true), false),
            (BootPolicy::Tofu, facts(true, true, true), true),
            (BootPolicy::Tofu, facts(false, true, false), false),
            (BootPolicy::Tofu, facts(true, false, false), true),
            (BootPolicy::Relaxed, facts(true, true, true), false),
            (BootPolicy::Relaxed, facts(false, true, false), true),
            (BootPolicy::Relaxed, facts(true, false, false), true),
            (BootPolicy::Off, facts(true, true, false), true),
        ] {
            assert_eq!(policy.accepts_null(facts), taken, "{policy:?} {facts:?}");
        }
    }
}
