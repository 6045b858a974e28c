//! TPM commands and answers as bytes (TPM 2.0 Library, part 1, section 18).
//!
//! ```text
//! tag | size | code | handles | [size of authorisations | authorisations] | parameters
//! tag | size | response code | [handle] | [size of parameters] | parameters | [authorisations]
//! ```
//!
//! Integers are big endian.

use std::fmt;
use std::thread;
use std::time::Duration;

use tpm2_protocol::data::{TpmCc, TpmRc};

use super::transport::Transport;
use crate::error::Error;
use crate::public;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const HEADER: usize = 10;
/// TPM_RS_PW with an empty nonce, no attributes and an empty password.
const EMPTY_PASSWORD: [u8; 9] = [0x40, 0, 0, 0x09, 0, 0, 0, 0, 0];
/// A TPM that asks for the command again is given half a minute to get ready.
const ATTEMPTS: u32 = 100;
const PAUSE_MAX: Duration = Duration::from_millis(300);

/// How a command is authorised.
pub(super) enum Authorization {
    /// A password session with the empty password.
    EmptyPassword,
    /// A session's authorisation structure, made for this very command.
    Session(Vec<u8>),
    /// The empty password for the first handle, and another authorisation for the second.
    EmptyPasswordAnd(Box<Authorization>),
}

impl Authorization {
    /// A policy session that has no key of its own, so that its HMAC is empty too.
    pub(super) fn unsalted_policy(session: u32) -> Self {
        const CONTINUE: u8 = 1;
        Self::Session([&session.to_be_bytes()[..], &[0, 0, CONTINUE, 0, 0]].concat())
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::EmptyPassword => EMPTY_PASSWORD.to_vec(),
            Self::Session(bytes) => bytes.clone(),
            Self::EmptyPasswordAnd(other) => [&EMPTY_PASSWORD[..], &other.to_bytes()].concat(),
        }
    }
}

/// A command on its way to the TPM.
pub(super) struct Command {
    code: TpmCc,
    handles: Vec<u8>,
    authorization: Option<Authorization>,
    parameters: Vec<u8>,
}

impl Command {
    pub(super) fn new(code: TpmCc) -> Self {
        Self {
            code,
            handles: Vec::new(),
            authorization: None,
            parameters: Vec::new(),
        }
    }

    pub(super) fn handle(mut self, handle: u32) -> Self {
        self.handles.extend(handle.to_be_bytes());
        self
    }

    pub(super) fn authorize(mut self, authorization: Authorization) -> Self {
        self.authorization = Some(authorization);
        self
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.parameters.extend_from_slice(bytes);
        self
    }

    /// A TPM2B parameter with this content.
    pub(super) fn sized(self, content: &[u8]) -> Self {
        self.bytes(&public::sized(content))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let (tag, authorization) = match &self.authorization {
            None => (NO_SESSIONS, Vec::new()),
            Some(authorization) => {
                let bytes = authorization.to_bytes();
                let sized = [&length(&bytes).to_be_bytes()[..], &bytes].concat();
                (SESSIONS, sized)
            }
        };
        let body = [&self.handles[..], &authorization, &self.parameters].concat();
        let size = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        [
            &tag.to_be_bytes()[..],
            &size.to_be_bytes(),
            &self.code.value().to_be_bytes(),
            &body,
        ]
        .concat()
    }

    /// Sends the command until the TPM has an answer other than "again".
    pub(super) fn transact(&self, transport: &mut dyn Transport) -> Result<Response, Error> {
        let bytes = self.to_bytes();
        let mut pause = Duration::from_millis(1);
        for _ in 1..ATTEMPTS {
            let response =
                Response::parse(self, transport.transact(&bytes).map_err(Error::Transport)?)?;
            if !response.code.asks_again() {
                return Ok(response);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Response::parse(self, transport.transact(&bytes).map_err(Error::Transport)?)
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A TPM's answer, split into its areas.
pub(super) struct Response {
    command: &'static str,
    code: ResponseCode,
    handle: Option<u32>,
    parameters: Vec<u8>,
    authorization: Vec<u8>,
}

impl Response {
    fn parse(command: &Command, bytes: Vec<u8>) -> Result<Self, Error> {
        let name = name(command.code);
        let mut fields = Fields {
            command: name,
            rest: &bytes,
        };
        let tag = fields.u16()?;
        if usize::try_from(fields.u32()?) != Ok(bytes.len()) {
            return Err(fields.error("its size is not the one it states"));
        }
        let code = ResponseCode(fields.u32()?);
        let mut response = Self {
            command: name,
            code,
            handle: None,
            parameters: Vec::new(),
            authorization: Vec::new(),
        };
        if code.0 != 0 {
            return Ok(response);
        }
        if makes_handle(command.code) {
            response.handle = Some(fields.u32()?);
        }
        if tag == SESSIONS {
            let size = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
            response.parameters = fields.bytes(size)?.to_vec();
            response.authorization = fields.rest.to_vec();
        } else {
            response.parameters = fields.rest.to_vec();
        }
        Ok(response)
    }

    /// The answer, unless the TPM refused.
    pub(super) fn check(self) -> Result<Self, Error> {
        match self.code {
            ResponseCode(0) => Ok(self),
            ResponseCode::LOCKOUT => Err(Error::Lockout),
            code => Err(Error::Tpm {
                command: self.command,
                code,
            }),
        }
    }

    /// The handle of what the command made, if it made something.
    pub(super) fn new_handle(&self) -> Option<u32> {
        self.handle
    }

    pub(super) fn handle(&self) -> Result<u32, Error> {
        self.handle
            .ok_or_else(|| self.fields().error("it has no handle"))
    }

    pub(super) fn parameters(&self) -> &[u8] {
        &self.parameters
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            command: self.command,
            rest: &self.parameters,
        }
    }

    pub(super) fn authorization(&self) -> Fields<'_> {
        Fields {
            command: self.command,
            rest: &self.authorization,
        }
    }
}

/// The fields of an answer, read from front to back.
pub(super) struct Fields<'a> {
    command: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn error(&self, what: &'static str) -> Error {
        Error::TpmAnswer {
            command: self.command,
            what,
        }
    }

    pub(super) fn bytes(&mut self, size: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or_else(|| self.error("it is cut off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| self.error("it is cut off"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// The content of a TPM2B structure.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], Error> {
        let size = self.u16()?;
        self.bytes(size.into())
    }

    /// Skips TPML_PCR_SELECTION.
    pub(super) fn skip_selection(&mut self) -> Result<(), Error> {
        for _ in 0..self.u32()? {
            self.u16()?;
            let size = self.u8()?;
            self.bytes(size.into())?;
        }
        Ok(())
    }
}

/// Why the TPM refused, as its number and, where known, its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseCode(u32);

impl ResponseCode {
    const AUTH_FAIL: Self = Self(0x08e);
    const BAD_AUTH: Self = Self(0x0a2);
    pub(super) const HANDLE: Self = Self(0x08b);
    pub(super) const INTEGRITY: Self = Self(0x09f);
    pub(super) const LOCKOUT: Self = Self(0x921);
    pub(super) const PCR_CHANGED: Self = Self(0x128);
    pub(super) const POLICY_FAIL: Self = Self(0x09d);
    const RETRY: Self = Self(0x922);
    const TESTING: Self = Self(0x90a);
    const YIELDED: Self = Self(0x908);

    /// The number the TPM answered.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// Whether this is `code`, whichever parameter, handle or session it points at.
    pub(super) fn is(self, code: Self) -> bool {
        // Bit 7 marks the codes that carry such a pointer in the bits around bit 8.
        let pointed = self.0 & 0x80 != 0;
        code.0 == if pointed { self.0 & 0xbf } else { self.0 }
    }

    pub(super) fn is_wrong_password(self) -> bool {
        self.is(Self::BAD_AUTH) || self.is(Self::AUTH_FAIL)
    }

    fn asks_again(self) -> bool {
        matches!(self, Self::RETRY | Self::TESTING | Self::YIELDED)
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TpmRc::try_from(self.0) {
            Ok(named) => write!(f, "{named} ({:#x})", self.0),
            Err(_) => write!(f, "{:#x}", self.0),
        }
    }
}

fn makes_handle(code: TpmCc) -> bool {
    matches!(
        code,
        TpmCc::CreatePrimary | TpmCc::Load | TpmCc::LoadExternal | TpmCc::StartAuthSession
    )
}

/// The command's name in the TCG's spelling.
fn name(code: TpmCc) -> &'static str {
    match code {
        TpmCc::ActivateCredential => "TPM2_ActivateCredential",
        TpmCc::CreatePrimary => "TPM2_CreatePrimary",
        TpmCc::EvictControl => "TPM2_EvictControl",
        TpmCc::FlushContext => "TPM2_FlushContext",
        TpmCc::GetCapability => "TPM2_GetCapability",
        TpmCc::Import => "TPM2_Import",
        TpmCc::Load => "TPM2_Load",
        TpmCc::LoadExternal => "TPM2_LoadExternal",
        TpmCc::NvRead => "TPM2_NV_Read",
        TpmCc::NvReadPublic => "TPM2_NV_ReadPublic",
        TpmCc::PcrRead => "TPM2_PCR_Read",
        TpmCc::PolicyAuthorize => "TPM2_PolicyAuthorize",
        TpmCc::PolicyGetDigest => "TPM2_PolicyGetDigest",
        TpmCc::PolicyPcr => "TPM2_PolicyPCR",
        TpmCc::PolicySecret => "TPM2_PolicySecret",
        TpmCc::ReadPublic => "TPM2_ReadPublic",
        TpmCc::StartAuthSession => "TPM2_StartAuthSession",
        TpmCc::Unseal => "TPM2_Unseal",
        TpmCc::VerifySignature => "TPM2_VerifySignature",
        _ => "a command",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_laid_out_as_the_library_says() {
        let command = Command::new(TpmCc::Load)
            .handle(0x8100_0001)
            .authorize(Authorization::EmptyPassword)
            .sized(&[1, 2]);
        assert_eq!(
            hex::encode(command.to_bytes()),
            "8002\
             0000001f\
             00000157\
             81000001\
             00000009400000090000000000\
             00020102"
        );
        assert_eq!(
            hex::encode(Command::new(TpmCc::FlushContext).u32(5).to_bytes()),
            "80010000000e0000016500000005"
        );
    }

    #[test]
    fn codes_are_known_whatever_they_point_at() {
        for code in [0x09f, 0x1df, 0x29f, 0x99f] {
            assert!(ResponseCode(code).is(ResponseCode::INTEGRITY), "{code:#x}");
        }
        assert!(!ResponseCode(0x921).is(ResponseCode::INTEGRITY));
        assert!(ResponseCode(0x9a2).is(ResponseCode::BAD_AUTH));
    }

    #[test]
    fn a_cut_answer_is_told() {
        let command = Command::new(TpmCc::Load);
        for (bytes, what) in [
            (vec![0x80, 1], "it is cut off"),
            (
                vec![0x80, 1, 0, 0, 0, 11, 0, 0, 0, 0],
                "its size is not the one it states",
            ),
            (vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0], "it is cut off"),
        ] {
            match Response::parse(&command, bytes) {
                Err(Error::TpmAnswer {
                    command: "TPM2_Load",
                    what: found,
                }) => assert_eq!(found, what),
                _ => panic!("accepted, or another error than {what:?}"),
            }
        }
    }
}
