//! What the endorsement key is asked: who it is, and whether it sits in one TPM with a storage key.

use tpm2_protocol::data::TpmCc;

use super::command::{Authorization, Command, ResponseCode};
use super::session::{NULL_HANDLE, POLICY};
use super::{Template, Tpm};
use crate::challenge::{Answer, Challenge, Proof, StorageKey, Task};
use crate::endorsement::{EndorsementArea, EndorsementKey, EndorsementKind, EndorsementTemplate};
use crate::error::Error;
use crate::secret::Secret;

const ENDORSEMENT: u32 = 0x4000_000b;
/// Bytes asked of an NV index at a time: below TPM2_PT_NV_BUFFER_MAX of every chip.
const NV_CHUNK: u16 = 512;

impl Tpm<'_> {
    /// The endorsement key, of `kind` if one is given: the first of which there is a certificate, else the first that the TPM
    /// can make; `None` when it can make none. Takes some chips seconds, for RSA.
    ///
    /// # Errors
    ///
    /// [`Error::EndorsementLocked`] when the endorsement hierarchy has a password.
    pub fn endorsement_key(
        &mut self,
        kind: Option<EndorsementKind>,
    ) -> Result<Option<EndorsementKey>, Error> {
        let wanted =
            |template: &EndorsementTemplate| kind.is_none_or(|kind| template.kind() == kind);
        let templates = || EndorsementTemplate::ALL.into_iter().filter(wanted);
        for template in templates() {
            if let Some(certificate) = self.certificate(template)? {
                let public = self.endorsement_area(template)?;
                return Ok(Some(EndorsementKey::new(public, Some(certificate))));
            }
        }
        // Without a certificate the low range comes first, which every profile has had.
        for template in templates().collect::<Vec<_>>().into_iter().rev() {
            match self.endorsement_area(template) {
                Ok(public) => return Ok(Some(EndorsementKey::new(public, None))),
                Err(Error::Tpm { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Answers a challenge: recovers the secret that was encrypted for each storage key.
    ///
    /// # Errors
    ///
    /// [`Error::NotProven`] for the first key that this TPM cannot answer for; [`Error::HandleEmpty`],
    /// [`Error::OwnerLocked`], [`Error::EndorsementLocked`]. Nothing of ours stays loaded.
    pub fn answer(&mut self, challenge: &Challenge) -> Result<Answer, Error> {
        let wanted = &challenge.endorsement_key;
        self.cleaning_up(|tpm| {
            let (handle, found) = tpm.create_endorsement_key(wanted.template())?;
            let mut proofs = Vec::new();
            for task in &challenge.tasks {
                let secret = tpm.activate(task, handle, wanted.template());
                let secret = secret.map_err(|error| not_proven(error, task, found == *wanted))?;
                let name = task.name.clone();
                proofs.push(Proof { name, secret });
            }
            let endorsement_key = wanted.name();
            Ok(Answer {
                endorsement_key,
                proofs,
            })
        })
    }

    fn endorsement_area(
        &mut self,
        template: EndorsementTemplate,
    ) -> Result<EndorsementArea, Error> {
        self.cleaning_up(|tpm| tpm.create_endorsement_key(template).map(|(_, area)| area))
    }

    fn create_endorsement_key(
        &mut self,
        template: EndorsementTemplate,
    ) -> Result<(u32, EndorsementArea), Error> {
        let response = self.create_primary_in(ENDORSEMENT, &template.sized())?;
        let area = EndorsementArea::parse(response.fields().sized()?)?;
        Ok((response.handle()?, area))
    }

    /// TPM2_ActivateCredential under the endorsement key at `handle`. Loads and flushes what it needs: a bare TPM has three slots.
    fn activate(
        &mut self,
        task: &Task,
        handle: u32,
        template: EndorsementTemplate,
    ) -> Result<Secret, Error> {
        let object = match task.key {
            StorageKey::StorageRootKey(handle) => handle,
            StorageKey::LegacyParent(algorithm) => {
                self.create_primary(Template::LegacyParent, algorithm)?.0
            }
        };
        let authorization = match template.user_with_auth() {
            true => Authorization::EmptyPassword,
            false => Authorization::unsalted_policy(self.policy_a_session()?),
        };
        let command = Command::new(TpmCc::ActivateCredential)
            .handle(object)
            .handle(handle)
            .authorize(Authorization::EmptyPasswordAnd(Box::new(authorization)))
            .sized(&task.credential)
            .sized(&task.seed);
        let response = self.run(&command)?;
        let secret = Secret::copied_from(response.fields().sized()?);
        self.flush_behind(handle);
        Ok(secret)
    }

    /// A policy session in which policy A is satisfied: whoever may use the endorsement hierarchy may use its key.
    fn policy_a_session(&mut self) -> Result<u32, Error> {
        let mut nonce = [0; 32];
        self.rng.fill_bytes(&mut nonce);
        let command = Command::new(TpmCc::StartAuthSession)
            .handle(NULL_HANDLE)
            .handle(NULL_HANDLE)
            .sized(&nonce)
            // No salt. No cipher: what the TPM returns here is no secret on its bus. SHA-256.
            .bytes(&[0, 0, POLICY, 0, 0x10, 0, 0x0b]);
        let session = self.run(&command)?.handle()?;
        let command = Command::new(TpmCc::PolicySecret)
            .handle(ENDORSEMENT)
            .handle(session)
            .authorize(Authorization::EmptyPassword)
            // No nonce, no command, no reference; it does not expire.
            .bytes(&[0; 10]);
        match self.run(&command) {
            Err(Error::Tpm { code, .. }) if code.is_wrong_password() => {
                Err(Error::EndorsementLocked)
            }
            response => response.map(|_| session),
        }
    }

    /// The certificate that belongs to a template; `None` when its NV index is missing, unwritten or not ours to read.
    fn certificate(&mut self, template: EndorsementTemplate) -> Result<Option<Vec<u8>>, Error> {
        match self.read_nv(template.certificate_index()) {
            Ok(content) => Ok(der_prefix(&content).map(<[u8]>::to_vec)),
            Err(Error::Tpm { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The content of an NV index that the empty password opens.
    fn read_nv(&mut self, index: u32) -> Result<Vec<u8>, Error> {
        let response = self.run(&Command::new(TpmCc::NvReadPublic).handle(index))?;
        let area = response.fields().sized()?;
        // The index, its hash, attributes and policy stand before the size, which is last.
        let size = area.last_chunk().map(|size| u16::from_be_bytes(*size));
        let size = size.ok_or_else(|| response.fields().error("it is cut off"))?;
        let mut content = Vec::new();
        for offset in (0..size).step_by(NV_CHUNK.into()) {
            let command = Command::new(TpmCc::NvRead)
                .handle(index)
                .handle(index)
                .authorize(Authorization::EmptyPassword)
                .bytes(&NV_CHUNK.min(size - offset).to_be_bytes())
                .bytes(&offset.to_be_bytes());
            content.extend_from_slice(self.run(&command)?.fields().sized()?);
        }
        Ok(content)
    }
}

/// The DER structure at the start: some makers fill their NV index up behind the certificate.
fn der_prefix(content: &[u8]) -> Option<&[u8]> {
    let size = match content {
        [0x30, 0x81, size, ..] => 3 + usize::from(*size),
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => return None,
    };
    content.get(..size)
}

/// Why a key did not pass. The TPM says only that something does not fit; what does not is seen from the keys it has.
fn not_proven(error: Error, task: &Task, same_endorsement_key: bool) -> Error {
    let reason = match error {
        Error::Tpm { code, .. } if code.is(ResponseCode::HANDLE) => match task.key {
            StorageKey::StorageRootKey(handle) => return Error::HandleEmpty { handle },
            StorageKey::LegacyParent(_) => return error,
        },
        Error::Tpm {
            command: "TPM2_ActivateCredential",
            ..
        } if same_endorsement_key => {
            "the TPM refuses the challenge: its key is another one than the identity says, or the challenge was changed on its way"
        }
        Error::Tpm {
            command: "TPM2_ActivateCredential",
            ..
        } => {
            "the TPM refuses the challenge: it was made for another endorsement key than this TPM's"
        }
        error => return error,
    };
    Error::NotProven {
        key: task.key.to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fills_an_index_up_is_cut_off() {
        let mut certificate = vec![0x30, 0x82, 0x01, 0x00];
        certificate.resize(260, 7);
        let filled = [&certificate[..], &[0xff; 100]].concat();
        assert_eq!(der_prefix(&filled), Some(&certificate[..]));
        assert_eq!(
            der_prefix(&[0x30, 0x81, 2, 1, 1, 0]),
            Some(&[0x30, 0x81, 2, 1, 1][..])
        );
        for bad in [&certificate[..259], &[0xff; 100], &[]] {
            assert_eq!(der_prefix(bad), None);
        }
    }
}
