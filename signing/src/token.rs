//! A private key on a PKCS#11 token: an HSM, a smart card, a software token. The module is a shared library that is
//! loaded when it is used; so this is behind the feature `pkcs11`.

use std::fmt;
use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Failure, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::RawAuthPin;
use der::Decode;
use der::asn1::{OctetString, UintRef};
use rsa::RsaPublicKey;

use crate::public_key::{Kind, PublicKey};
use crate::{Certificate, Error, Hash, KeySource, TokenUri};

/// What knows all modules that are set up on a machine.
const PROXY: &str = "p11-kit-proxy.so";

/// A private key on a token, with an open session.
pub struct TokenKey {
    session: Session,
    key: ObjectHandle,
    public: PublicKey,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.public)
    }
}

impl TokenKey {
    /// Opens the one key that the URI fits. Its `pin_source` is not read: the PIN is given.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] when there is no such module, token or key, or more than one, or the PIN is wrong;
    /// [`Error::PrivateKey`] when the key is of a kind that no boot takes.
    pub fn open(uri: &TokenUri, pin: &[u8]) -> Result<Self, Error> {
        let module = load(uri.module_path.as_deref().unwrap_or(Path::new(PROXY)))?;
        let slot = slot(&module, uri)?;
        let session = module.open_ro_session(slot).map_err(failed)?;
        let pin = RawAuthPin::new(Box::new(pin.to_vec()));
        session
            .login_with_raw(UserType::User, &pin)
            .map_err(failed)?;
        let key = private_key(&session, uri)?;
        let public = public_key(&session, key)?;
        Ok(Self {
            session,
            key,
            public,
        })
    }
}

impl KeySource for TokenKey {
    fn public_key(&self) -> PublicKey {
        self.public.clone()
    }

    /// RSA signatures are the same each time; whether those of ECDSA are is up to the token.
    fn sign_digest(&self, hash: Hash, digest: &[u8]) -> Result<Vec<u8>, Error> {
        let (mechanism, input) = if self.public.is_rsa() {
            let info = [&*hash.padding().prefix, digest].concat();
            (Mechanism::RsaPkcs, info)
        } else {
            (Mechanism::Ecdsa, digest.to_vec())
        };
        let raw = self.session.sign(&mechanism, self.key, &input);
        Ok(self.public.signature_from_raw(&raw.map_err(failed)?))
    }
}

fn load(path: &Path) -> Result<Pkcs11, Error> {
    let shown = path.display();
    let module = Pkcs11::new(path).map_err(|error| {
        refused(format!(
            "cannot load the module `{shown}`: {}",
            reason(&error)
        ))
    })?;
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    module.initialize(arguments).map_err(|error| {
        refused(format!(
            "the module `{shown}` does not start: {}",
            reason(&error)
        ))
    })?;
    Ok(module)
}

fn slot(module: &Pkcs11, uri: &TokenUri) -> Result<Slot, Error> {
    let mut fitting = Vec::new();
    for slot in module.get_slots_with_initialized_token().map_err(failed)? {
        let token = module.get_token_info(slot).map_err(failed)?;
        let fits = fits(&uri.token, token.label())
            && fits(&uri.manufacturer, token.manufacturer_id())
            && fits(&uri.model, token.model())
            && fits(&uri.serial, token.serial_number())
            && uri.slot_id.is_none_or(|id| id == slot.id());
        if fits {
            fitting.push(slot);
        }
    }
    only(&fitting, "token").copied()
}

fn fits(wanted: &Option<String>, found: &str) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == found)
}

fn only<'a, T>(found: &'a [T], what: &str) -> Result<&'a T, Error> {
    match found {
        [one] => Ok(one),
        [] => Err(refused(format!("no {what} fits the URI"))),
        several => {
            let count = several.len();
            Err(refused(format!("{count} {what}s fit the URI")))
        }
    }
}

fn private_key(session: &Session, uri: &TokenUri) -> Result<ObjectHandle, Error> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    template.extend(
        uri.object
            .clone()
            .map(|label| Attribute::Label(label.into())),
    );
    template.extend(uri.id.clone().map(Attribute::Id));
    let found = session.find_objects(&template).map_err(failed)?;
    only(&found, "private key").copied()
}

/// The public half: of RSA it is part of the private key; of ECDSA it is beside it, as a key or in a certificate.
fn public_key(session: &Session, key: ObjectHandle) -> Result<PublicKey, Error> {
    let attributes = [
        AttributeType::Modulus,
        AttributeType::PublicExponent,
        AttributeType::Id,
        AttributeType::KeyType,
        AttributeType::AlwaysAuthenticate,
    ];
    let (mut modulus, mut exponent, mut id, mut kind) = (None, None, Vec::new(), None);
    for attribute in session.get_attributes(key, &attributes).map_err(failed)? {
        match attribute {
            Attribute::Modulus(bytes) => modulus = Some(bytes),
            Attribute::PublicExponent(bytes) => exponent = Some(bytes),
            Attribute::Id(bytes) => id = bytes,
            Attribute::KeyType(found) => kind = Some(found),
            Attribute::AlwaysAuthenticate(true) => {
                return Err(refused(
                    "the key wants its PIN for each signature, which is not asked here",
                ));
            }
            _ => {}
        }
    }
    match (kind, modulus, exponent) {
        (Some(KeyType::RSA), Some(modulus), Some(exponent)) => rsa_key(&modulus, &exponent),
        (Some(KeyType::EC), ..) => key_beside(session, id),
        _ => Err(Error::private_key(
            "is neither RSA nor ECDSA on P-256 or P-384",
        )),
    }
}

fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, Error> {
    let read = || -> Option<RsaPublicKey> {
        let numbers = rsa::pkcs1::RsaPublicKey {
            modulus: UintRef::new(modulus).ok()?,
            public_exponent: UintRef::new(exponent).ok()?,
        };
        RsaPublicKey::try_from(numbers).ok()
    };
    let key = read().ok_or_else(|| Error::private_key("has a damaged public half"))?;
    PublicKey::rsa(key).map_err(Error::private_key)
}

fn key_beside(session: &Session, id: Vec<u8>) -> Result<PublicKey, Error> {
    for (class, kind) in [
        (ObjectClass::PUBLIC_KEY, AttributeType::EcPoint),
        (ObjectClass::CERTIFICATE, AttributeType::Value),
    ] {
        let template = [Attribute::Class(class), Attribute::Id(id.clone())];
        let found = session.find_objects(&template).map_err(failed)?;
        for object in found {
            let attributes = session.get_attributes(object, &[kind]).map_err(failed)?;
            if let Some(key) = attributes.into_iter().find_map(key_in) {
                return Ok(key);
            }
        }
    }
    Err(Error::private_key(
        "has no public key on P-256 or P-384 and no certificate with its identifier beside it",
    ))
}

fn key_in(attribute: Attribute) -> Option<PublicKey> {
    match attribute {
        Attribute::EcPoint(der) => {
            let point = OctetString::from_der(&der).ok()?;
            let point = point.as_bytes();
            let kind = p256::PublicKey::from_sec1_bytes(point)
                .map(Kind::P256)
                .or_else(|_| p384::PublicKey::from_sec1_bytes(point).map(Kind::P384));
            kind.ok().map(PublicKey)
        }
        Attribute::Value(der) => Some(Certificate::from_der(&der).ok()?.key().clone()),
        _ => None,
    }
}

fn failed(error: Failure) -> Error {
    refused(reason(&error))
}

fn refused(what: impl Into<String>) -> Error {
    Error::Token { what: what.into() }
}

/// In few words; the crate's own are the standard's paragraphs.
fn reason(error: &Failure) -> String {
    match error {
        Failure::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _) => {
            "the PIN is wrong".into()
        }
        Failure::Pkcs11(RvError::PinLocked, _) => "the PIN is locked".into(),
        Failure::Pkcs11(RvError::PinExpired, _) => "the PIN has expired".into(),
        Failure::Pkcs11(value, function) => format!("{function} says {value:?}"),
        Failure::LibraryLoading(error) => error.to_string(),
        other => other.to_string(),
    }
}
