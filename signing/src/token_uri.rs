//! A private key on a token, named by a PKCS#11 URI (RFC 7512).
//!
//! ```text
//! pkcs11:token=LABEL;object=LABEL;id=%01?module-path=/usr/lib/…/module.so&pin-source=file:/…
//! ```

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// Which key on which token. What is `None` may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenUri {
    /// The token's label.
    pub token: Option<String>,
    /// The token's manufacturer.
    pub manufacturer: Option<String>,
    /// The token's model.
    pub model: Option<String>,
    /// The token's serial number.
    pub serial: Option<String>,
    /// The slot's number, which may change when tokens come and go.
    pub slot_id: Option<u64>,
    /// The key's label.
    pub object: Option<String>,
    /// The key's identifier.
    pub id: Option<Vec<u8>>,
    /// The PKCS#11 module; `p11-kit-proxy.so`, which knows all that are set up, if not given.
    pub module_path: Option<PathBuf>,
    /// The file with the PIN.
    pub pin_source: Option<PathBuf>,
}

impl TokenUri {
    /// Whether text is a URI of this kind, right or wrong, and not the path of a file.
    pub fn is(text: &str) -> bool {
        text.get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
    }

    fn set(&mut self, name: &str, value: Vec<u8>) -> Result<(), String> {
        match name {
            "token" => once(&mut self.token, name, text(name, value)?),
            "manufacturer" => once(&mut self.manufacturer, name, text(name, value)?),
            "model" => once(&mut self.model, name, text(name, value)?),
            "serial" => once(&mut self.serial, name, text(name, value)?),
            "object" => once(&mut self.object, name, text(name, value)?),
            "id" => once(&mut self.id, name, value),
            "slot-id" => {
                let number = text(name, value)?.parse();
                let number = number.map_err(|_| "its slot-id= is not a number".to_owned())?;
                once(&mut self.slot_id, name, number)
            }
            "type" if value == b"private" => Ok(()),
            "type" => Err("its type= is not private".into()),
            "module-path" => once(&mut self.module_path, name, path(value)),
            "pin-source" => once(&mut self.pin_source, name, file(value)?),
            "pin-value" => Err(
                "its pin-value= shows the PIN to everybody who can list processes; put it into a file and give \
                 pin-source=file:PATH"
                    .into(),
            ),
            _ => Err(format!("its attribute `{name}` is not known here")),
        }
    }
}

impl FromStr for TokenUri {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self, Error> {
        parse(uri).map_err(|what| Error::TokenUri { what })
    }
}

fn parse(uri: &str) -> Result<TokenUri, String> {
    let rest = uri.get(7..).filter(|_| TokenUri::is(uri));
    let rest = rest.ok_or("it does not begin with pkcs11:")?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parsed = TokenUri::default();
    let attributes = path.split(';').chain(query.split('&'));
    for attribute in attributes.filter(|attribute| !attribute.is_empty()) {
        let (name, value) = attribute
            .split_once('=')
            .ok_or_else(|| format!("`{attribute}` is not NAME=VALUE"))?;
        parsed.set(name, decode(name, value)?)?;
    }
    Ok(parsed)
}

fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("it has {name}= twice")),
    }
}

fn text(name: &str, value: Vec<u8>) -> Result<String, String> {
    String::from_utf8(value).map_err(|_| format!("its {name}= is not UTF-8"))
}

fn path(value: Vec<u8>) -> PathBuf {
    OsString::from_vec(value).into()
}

/// `file:` and a path, or a path alone.
fn file(value: Vec<u8>) -> Result<PathBuf, String> {
    let path_part = value.strip_prefix(b"file:".as_slice()).unwrap_or(&value);
    let path_part = path_part
        .strip_prefix(b"//".as_slice())
        .unwrap_or(path_part);
    if path_part.starts_with(b"|") {
        return Err("its pin-source= is a program; only files are read".into());
    }
    Ok(path(path_part.to_vec()))
}

fn decode(name: &str, value: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: Vec<u8> = rest.by_ref().take(2).collect();
        let mut decoded = [0];
        hex::decode_to_slice(digits, &mut decoded)
            .map_err(|_| format!("its {name}= has a % without two hex digits"))?;
        bytes.extend(decoded);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_attribute_is_read() {
        let uri = "pkcs11:token=my%20token;manufacturer=m;model=o;serial=1;slot-id=7;object=key;id=%01%fF;type=private\
                   ?module-path=/usr/lib/m.so&pin-source=file:/run/pin";
        let expected = TokenUri {
            token: Some("my token".into()),
            manufacturer: Some("m".into()),
            model: Some("o".into()),
            serial: Some("1".into()),
            slot_id: Some(7),
            object: Some("key".into()),
            id: Some(vec![1, 255]),
            module_path: Some("/usr/lib/m.so".into()),
            pin_source: Some("/run/pin".into()),
        };
        assert_eq!(uri.parse::<TokenUri>().unwrap(), expected);
        let sources = ["/run/pin", "file:///run/pin"];
        for source in sources {
            let parsed: TokenUri = format!("pkcs11:?pin-source={source}").parse().unwrap();
            assert_eq!(parsed.pin_source, expected.pin_source);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (uri, expected) in [
            ("file:x", "it does not begin with pkcs11:"),
            ("pkcs11:token", "`token` is not NAME=VALUE"),
            ("pkcs11:token=a;token=b", "it has token= twice"),
            ("pkcs11:token=%ff", "its token= is not UTF-8"),
            ("pkcs11:id=%f", "its id= has a % without two hex digits"),
            ("pkcs11:slot-id=x", "its slot-id= is not a number"),
            ("pkcs11:type=cert", "its type= is not private"),
            (
                "pkcs11:colour=red",
                "its attribute `colour` is not known here",
            ),
            (
                "pkcs11:?pin-source=%7Ccat%20pin",
                "its pin-source= is a program; only files are read",
            ),
            (
                "pkcs11:?pin-value=1234",
                "its pin-value= shows the PIN to everybody who can list processes; put it into a file and give \
                 pin-source=file:PATH",
            ),
        ] {
            assert_eq!(
                uri.parse::<TokenUri>().unwrap_err().to_string(),
                format!("not a usable PKCS#11 URI: {expected}")
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<TokenUri>();
            let _ = format!("pkcs11:{text}").parse::<TokenUri>();
        }
    }
}
