//! Whether metadata counts: once, unless it is signed; and never from where an attacker of this kind of machine could put it.

use serde::{Deserialize, Serialize};

/// Where metadata came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A file or directory of the machine itself.
    Local,
    /// A volume that is found by its label: whoever has a port can plug one in.
    Volume,
    /// SMBIOS or fw_cfg: the hypervisor, or the firmware.
    Firmware,
}

/// What the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// Hardware.
    BareMetal,
    /// A virtual machine, whose hypervisor can do what it likes with it.
    Virtual,
    /// A virtual machine that is protected from its hypervisor.
    Confidential,
}

/// What becomes of metadata that nobody has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// It never counts.
    Refuse,
    /// It counts once, as long as nothing has.
    Once,
    /// As `Once`, and in a virtual machine again when it names another instance.
    EachInstance,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It counts.
    Apply,
    /// It was done before, or the sources are closed; the reason.
    Nothing(String),
    /// It does not count; the reason.
    Refuse(String),
}

/// What is known of metadata.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Where it came from.
    pub origin: Origin,
    /// What the machine is.
    pub machine: Machine,
    /// Whether an allowed signer signed all of it.
    pub signed: bool,
    /// The instance it is for.
    pub instance: &'a str,
    /// The instance that was applied, if one was.
    pub applied: Option<&'a str>,
}

/// Judges metadata.
pub fn decide(facts: &Facts<'_>, unsigned: Unsigned) -> Decision {
    let Facts {
        origin,
        machine,
        signed,
        instance,
        applied,
    } = *facts;
    if origin == Origin::Firmware && machine == Machine::Confidential {
        return Decision::Refuse(
            "it comes from the hypervisor, and this machine is protected from it".into(),
        );
    }
    if let Some(applied) = applied {
        let again = signed || (unsigned == Unsigned::EachInstance && machine == Machine::Virtual);
        return match applied == instance {
            true => Decision::Nothing(format!("instance {instance} is applied already")),
            false if again => Decision::Apply,
            false => Decision::Nothing(format!(
                "instance {applied} is applied, and instance {instance} is not signed: the sources are closed"
            )),
        };
    }
    match (signed, unsigned, origin, machine) {
        (true, ..) => Decision::Apply,
        (false, Unsigned::Refuse, ..) => {
            Decision::Refuse("it is not signed, and only signed metadata counts here".into())
        }
        (false, _, Origin::Volume, Machine::BareMetal) => Decision::Refuse(
            "it is not signed and on a removable volume, which anybody can plug into this machine"
                .into(),
        ),
        _ => Decision::Apply,
    }
}

#[cfg(test)]
mod tests {
    use super::Machine::{BareMetal, Confidential, Virtual};
    use super::Origin::{Firmware, Local, Volume};
    use super::Unsigned::{EachInstance, Once, Refuse};
    use super::{Decision, Facts, decide};

    #[test]
    fn metadata_counts_once_and_only_from_where_it_may() {
        for (origin, machine, signed, applied, unsigned, verdict) in [
            (Local, BareMetal, false, None, Once, "apply"),
            (Local, BareMetal, false, None, Refuse, "refuse"),
            (Local, BareMetal, true, None, Refuse, "apply"),
            (Volume, BareMetal, false, None, Once, "refuse"),
            (Volume, BareMetal, false, None, EachInstance, "refuse"),
            (Volume, BareMetal, true, None, Once, "apply"),
            (Volume, Virtual, false, None, Once, "apply"),
            (Firmware, Virtual, false, None, Once, "apply"),
            (Firmware, Confidential, false, None, Once, "refuse"),
            (Firmware, Confidential, true, None, Once, "refuse"),
            (Volume, Confidential, false, None, Once, "apply"),
            (Volume, Virtual, false, Some("i-1"), Once, "nothing"),
            (Volume, Virtual, false, Some("i-0"), Once, "nothing"),
            (Volume, Virtual, false, Some("i-0"), EachInstance, "apply"),
            (
                Volume,
                BareMetal,
                false,
                Some("i-0"),
                EachInstance,
                "nothing",
            ),
            (
                Volume,
                Confidential,
                false,
                Some("i-0"),
                EachInstance,
                "nothing",
            ),
            (Volume, BareMetal, true, Some("i-0"), Refuse, "apply"),
            (Volume, BareMetal, true, Some("i-1"), Refuse, "nothing"),
        ] {
            let facts = Facts {
                origin,
                machine,
                signed,
                instance: "i-1",
                applied,
            };
            let found = match decide(&facts, unsigned) {
                Decision::Apply => "apply",
                Decision::Nothing(_) => "nothing",
                Decision::Refuse(_) => "refuse",
            };
            assert_eq!(found, verdict, "{facts:?} {unsigned:?}");
        }
    }
}
