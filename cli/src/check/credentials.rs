//! Rules about credentials: PID 1's import, and what their readers can do with them.

use ukikit_creds::catalog::WellKnown;
use ukikit_creds::{
    Description, Encoding, EncryptedCredential, Error, Keys, PcrBank, PcrPolicy, Requirements,
    Timestamp,
};
use ukikit_esp::Bank;

use super::{Found, Subject};
use crate::model::{Delivered, Encoded, Import};
use crate::predict::{Moment, Prediction};

/// The credentials whose import ends like this.
fn with_import<'s>(
    subject: &'s Subject<'_>,
    wanted: impl Fn(&Import) -> bool + 's,
) -> impl Iterator<Item = &'s Delivered> {
    let all = subject.model.credentials.iter();
    all.filter(move |credential| wanted(&credential.import))
}

/// Those PID 1 imports and that can be read.
fn readable<'s>(
    subject: &'s Subject<'_>,
) -> impl Iterator<Item = (&'s Delivered, &'s EncryptedCredential)> {
    with_import(subject, |import| *import == Import::Taken)
        .filter_map(|credential| Some((credential, credential.content.credential()?)))
}

fn described<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = (&'s Delivered, Description)> {
    readable(subject).filter_map(|(file, credential)| Some((file, credential.describe().ok()?)))
}

pub(super) fn damaged(subject: &Subject<'_>) -> Vec<Found> {
    let taken = with_import(subject, |import| *import == Import::Taken);
    taken
        .filter_map(|credential| {
            let Encoded::Neither(what) = &credential.content else {
                return None;
            };
            let reason = format!(
                "it is no encrypted credential: {what}; units that import it by a pattern fail"
            );
            let remedy = "encrypt it anew, and let units import exact names";
            Some(Found::new(&credential.file.path, reason, remedy))
        })
        .collect()
}

fn well_known(credential: &Delivered) -> Option<WellKnown> {
    WellKnown::find(&credential.name.as_ref()?.parse().ok()?)
}

pub(super) fn encoding(subject: &Subject<'_>) -> Vec<Found> {
    let Some(systemd) = subject.systemd() else {
        return Vec::new();
    };
    let wrong = readable(subject).filter_map(|(file, _)| {
        let known = well_known(file);
        let wanted = known.map_or(Encoding::Base64, |known| known.encoding(systemd));
        let (own, wants) = match (&file.content, wanted) {
            (Encoded::Binary(_), Encoding::Base64) => ("binary", "base64"),
            (Encoded::Base64(_), Encoding::Binary) => ("Base64", "binary"),
            _ => return None,
        };
        let reader = known.map_or("its reader", |known| known.program);
        let reason = format!("it is {own}, and {reader} of systemd {systemd} does not read that");
        let remedy = format!("ukikit cred reencrypt --encoding={wants}");
        Some(Found::new(&file.file.path, reason, remedy))
    });
    wrong.collect()
}

pub(super) fn too_large(subject: &Subject<'_>) -> Vec<Found> {
    with_import(subject, |import| *import == Import::TooLarge)
        .map(|credential| {
            let size = credential.size;
            let reason =
                format!("it has {size} bytes, and PID 1 skips credentials of more than 1 MiB");
            Found::new(
                &credential.file.path,
                reason,
                "put large content into an extension",
            )
        })
        .collect()
}

pub(super) fn budget(subject: &Subject<'_>) -> Vec<Found> {
    with_import(subject, |import| *import == Import::BudgetSpent)
        .map(|credential| {
            let reason = "those in front of it use up the 1 MiB that PID 1 takes of all together";
            let remedy = "remove others, or put large content into an extension";
            Found::new(&credential.file.path, reason, remedy)
        })
        .collect()
}

pub(super) fn hidden(subject: &Subject<'_>) -> Vec<Found> {
    let hidden = subject.model.credentials.iter().filter_map(|credential| {
        let Import::Hidden { by } = &credential.import else {
            return None;
        };
        let reason = format!("{by} has the same name and comes first");
        Some(Found::new(
            &credential.file.path,
            reason,
            "remove one of them",
        ))
    });
    hidden.collect()
}

pub(super) fn kind(subject: &Subject<'_>) -> Vec<Found> {
    let Some(systemd) = subject.systemd() else {
        return Vec::new();
    };
    described(subject)
        .filter(|(_, description)| description.readable_since > systemd)
        .map(|(file, description)| {
            let since = description.readable_since;
            let reason =
                format!("its type is read from systemd {since} on, and the initrd has {systemd}");
            let remedy = format!("ukikit cred reencrypt --target-systemd={systemd}");
            Found::new(&file.file.path, reason, remedy)
        })
        .collect()
}

pub(super) fn host_key(subject: &Subject<'_>) -> Vec<Found> {
    readable(subject)
        .filter(|(_, credential)| credential.kind().host)
        .map(|(file, credential)| {
            let keys = credential.kind().with_key();
            let reason =
                format!("it is encrypted with {keys}, and no initrd has the host's secret");
            Found::new(&file.file.path, reason, "encrypt it with --with-key=tpm2")
        })
        .collect()
}

/// Those under the null key, which anybody can open.
fn under_null<'s>(
    subject: &'s Subject<'_>,
) -> impl Iterator<Item = (&'s Delivered, &'s EncryptedCredential)> {
    readable(subject).filter(|(_, credential)| {
        let kind = credential.kind();
        !kind.host && !kind.tpm
    })
}

pub(super) fn null_refused(subject: &Subject<'_>) -> Vec<Found> {
    let refused = under_null(subject).filter(|_| subject.refuses_null());
    refused
        .map(|(file, _)| {
            let reason = "it is under the null key, which this boot refuses where there is a TPM";
            Found::new(&file.file.path, reason, "encrypt it with --with-key=tpm2")
        })
        .collect()
}

pub(super) fn null(subject: &Subject<'_>) -> Vec<Found> {
    let opened = under_null(subject).filter(|(file, credential)| {
        !subject.refuses_null() && refusal(subject, file, credential).is_none()
    });
    opened
        .map(|(file, _)| {
            let reason =
                "it is under the null key: whoever can write the ESP can read and replace it";
            Found::new(&file.file.path, reason, "encrypt it with --with-key=tpm2")
        })
        .collect()
}

/// What opening one under the null key refuses.
fn refusal(
    subject: &Subject<'_>,
    file: &Delivered,
    credential: &EncryptedCredential,
) -> Option<Error> {
    let mut want = Requirements::any();
    want.allow_null = true;
    want.name = file.name.as_ref().and_then(|name| name.parse().ok());
    want.now = Some(Timestamp::from_micros(subject.circumstances.now));
    credential.decrypt(&mut Keys::default(), &want).err()
}

pub(super) fn name(subject: &Subject<'_>) -> Vec<Found> {
    let misnamed = under_null(subject).filter_map(|(file, credential)| {
        let Some(Error::NameMismatch { embedded, .. }) = refusal(subject, file, credential) else {
            return None;
        };
        let reason = format!("it was made as {embedded}, and opens under no other name");
        let remedy = format!("name the file {embedded}.cred");
        Some(Found::new(&file.file.path, reason, remedy))
    });
    misnamed.collect()
}

pub(super) fn expired(subject: &Subject<'_>) -> Vec<Found> {
    let expired = under_null(subject).filter_map(|(file, credential)| {
        let Some(Error::Expired { not_after }) = refusal(subject, file, credential) else {
            return None;
        };
        let reason = format!("it expired at {not_after}");
        Some(Found::new(
            &file.file.path,
            reason,
            "ukikit cred reencrypt --not-after=",
        ))
    });
    expired.collect()
}

/// PCR 12 holds the credentials themselves, PCR 9 the initrds with them in it.
pub(super) fn own_pcr(subject: &Subject<'_>) -> Vec<Found> {
    let bound = described(subject).filter_map(|(file, description)| {
        let pcrs = description.tpm?.pcrs;
        let own = pcrs.iter().find(|pcr| [9, 12].contains(pcr))?;
        let reason = format!(
            "it is bound to the value of PCR {own}, which changes with the credential itself"
        );
        let remedy = "bind it to PCR 7, or to a signed policy of PCR 11";
        Some(Found::new(&file.file.path, reason, remedy))
    });
    bound.collect()
}

pub(super) fn other_tpm(subject: &Subject<'_>) -> Vec<Found> {
    let identity = subject.circumstances.identity.as_ref();
    let Some(key) = identity.and_then(|identity| identity.storage_root_key.as_ref()) else {
        return Vec::new();
    };
    let own = hex::encode(key.public.name());
    let foreign = described(subject).filter_map(|(file, description)| {
        let name = description.tpm?.parent_name?;
        (name != own).then(|| {
            let reason = "it is sealed to another TPM than that of the identity";
            Found::new(
                &file.file.path,
                reason,
                "seal it anew: ukikit cred reencrypt --for=",
            )
        })
    });
    foreign.collect()
}

pub(super) fn tpm_library(subject: &Subject<'_>) -> Vec<Found> {
    let lacking = subject.facts().is_some_and(|facts| !facts.tpm_libraries);
    let sealed = readable(subject).filter(|(_, credential)| lacking && credential.kind().tpm);
    sealed
        .map(|(file, _)| {
            let reason = "it is sealed to the TPM, and the initrd lacks the libraries to use one";
            Found::new(
                &file.file.path,
                reason,
                "build the UKI with dracut's module tpm2-tss, or bring them by ukikit addon build --recipe=tpm2",
            )
        })
        .collect()
}

/// Under a signed policy a credential opens while PCR 11 has a value the UKI brings a signature for. Generators and PID 1
/// read before the initrd has measured `enter-initrd`.
pub(super) fn signature(subject: &Subject<'_>) -> Vec<Found> {
    let Ok(boot) = &subject.boot else {
        return Vec::new();
    };
    let signed: Vec<_> = described(subject)
        .filter_map(|(file, description)| {
            let tpm = description.tpm?;
            let mask = tpm.signed_pcrs?;
            (mask.iter().eq([11])).then_some((file, tpm.bank, tpm.public_key))
        })
        .collect();
    if signed.is_empty() || subject.planned.uki.is_none() {
        return Vec::new();
    }
    let prediction = Prediction::new(boot, &Bank::ALL, true);
    let signatures = subject.section(".pcrsig").unwrap_or_default();
    let signatures: serde_json::Value = serde_json::from_slice(signatures).unwrap_or_default();
    let unopened = signed.into_iter().filter_map(|(file, bank, key)| {
        let early = well_known(file).is_some_and(|known| known.reader.is_early());
        let moment = if early {
            Moment::AfterStub
        } else {
            Moment::EnterInitrd
        };
        let policy = policy(&prediction, moment, bank)?;
        let has = |entry: &serde_json::Value| {
            let is = |member: &str, text: &str| entry.get(member).is_some_and(|own| own == text);
            is("pol", &policy) && key.as_ref().is_none_or(|key| is("pkfp", key))
        };
        let entries = signatures.get(bank.to_string());
        let entries = entries.and_then(serde_json::Value::as_array);
        if entries.is_some_and(|entries| entries.iter().any(has)) {
            return None;
        }
        let reason = if early {
            "its reader opens it before enter-initrd is measured, and the UKI has no signature for that PCR 11"
        } else {
            "it wants a signature for PCR 11 in the initrd, and the UKI has none by that key"
        };
        let remedy = "sign the UKI for that phase too: ukify --phases=: and the others";
        Some(Found::new(&file.file.path, reason, remedy))
    });
    unopened.collect()
}

fn policy(prediction: &Prediction, moment: Moment, bank: PcrBank) -> Option<String> {
    let value = prediction.value(moment, Bank::from_id(bank.id())?, 11)?;
    let policy = PcrPolicy {
        bank,
        literal: [(11, value.as_bytes().to_vec())].into(),
        signed: None,
    };
    policy.digest().ok().map(hex::encode)
}
