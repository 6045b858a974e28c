//! What PID 1 imports from the ESP (systemd's `import-creds.c`), and what shows of it without a key.

use std::fmt;

use serde::{Serialize, Serializer};
use ukikit_creds::{Encoding, EncryptedCredential};
use ukikit_esp::File;

use super::Placed;

/// A credential that is in the initrd.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Delivered {
    /// Where it comes from and where it is.
    #[serde(flatten)]
    pub file: Placed,
    /// In bytes.
    pub size: usize,
    /// The name services ask for.
    pub name: Option<String>,
    /// Whether PID 1 imports it.
    pub import: Import,
    /// What the file is.
    pub content: Encoded,
}

/// Whether PID 1 imports a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
#[non_exhaustive]
pub enum Import {
    /// It does.
    Taken,
    /// Its name does not end in `.cred`, in lower case.
    Suffix,
    /// It is larger than 1 MiB.
    TooLarge,
    /// Those in front of it have used up the 1 MiB there is for all.
    BudgetSpent,
    /// One of the same name comes first.
    Hidden {
        /// The path of that one on the ESP.
        by: String,
    },
    /// No credential can have that name.
    Name,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "imported",
            Self::Suffix => "ignored, its suffix is not .cred in lower case",
            Self::TooLarge => "ignored, it has more than 1 MiB",
            Self::BudgetSpent => "ignored, all together have more than 1 MiB",
            Self::Hidden { by } => return write!(f, "hidden by {by}"),
            Self::Name => "ignored, no credential has such a name",
        })
    }
}

/// What a file is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Encoded {
    /// A credential in Base64.
    Base64(Box<EncryptedCredential>),
    /// A credential as bytes.
    Binary(Box<EncryptedCredential>),
    /// None; the reason is what is wrong with it as Base64.
    Neither(String),
}

impl Encoded {
    fn of(file: &[u8]) -> Self {
        match EncryptedCredential::parse(file, Encoding::Base64) {
            Ok(credential) => Self::Base64(Box::new(credential)),
            Err(error) => match EncryptedCredential::parse(file, Encoding::Binary) {
                Ok(credential) => Self::Binary(Box::new(credential)),
                Err(_) => Self::Neither(error.to_string()),
            },
        }
    }

    /// The credential.
    pub fn credential(&self) -> Option<&EncryptedCredential> {
        match self {
            Self::Base64(credential) | Self::Binary(credential) => Some(credential),
            Self::Neither(_) => None,
        }
    }
}

impl Serialize for Encoded {
    /// The keys it wants, as `--with-key=` spells them, or nothing.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let keys = self
            .credential()
            .map(|credential| credential.kind().with_key());
        keys.serialize(serializer)
    }
}

/// In bytes of the files, as they are on the ESP: for one, and for all (systemd: `CREDENTIALS_BYTES_MAX`).
const LARGEST: usize = 1024 * 1024;

/// First come, first served.
pub(super) fn import(files: Vec<(Placed, &File)>) -> Vec<Delivered> {
    let mut imported: Vec<Delivered> = Vec::new();
    let mut left = LARGEST;
    for (placed, file) in files {
        let size = file.content.len();
        let name = placed.name().strip_suffix(".cred").map(str::to_owned);
        let import = match &name {
            None => Import::Suffix,
            Some(name) if !is_name(name) => Import::Name,
            Some(_) if size > LARGEST => Import::TooLarge,
            Some(name) => match hiding(&imported, name) {
                Some(by) => Import::Hidden { by },
                None if size > left => Import::BudgetSpent,
                None => Import::Taken,
            },
        };
        if import == Import::Taken {
            left -= size;
        }
        imported.push(Delivered {
            file: placed,
            size,
            name,
            import,
            content: Encoded::of(&file.content),
        });
    }
    imported
}

/// A file name without colon and control characters.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == ':' || c.is_control())
}

fn hiding(imported: &[Delivered], name: &str) -> Option<String> {
    let first = imported
        .iter()
        .find(|other| other.import == Import::Taken && other.name.as_deref() == Some(name));
    first.map(|other| other.file.path.clone())
}
