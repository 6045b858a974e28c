//! Why a key or a certificate cannot serve.

use thiserror::Error;

/// Why a key, a certificate or a signature cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate that cannot be read, or that is not for signatures both the kernel and systemd take.
    #[error("not a usable certificate: {what}")]
    Certificate {
        /// The reason.
        what: String,
    },
    /// A private key that cannot be read or used. Which half of an encrypted one was wrong is not said.
    #[error("not a usable private key: {what}")]
    PrivateKey {
        /// The reason.
        what: String,
    },
    /// Something that PKCS#7 cannot hold.
    #[error("cannot be put into PKCS#7: {what}")]
    Content {
        /// The reason.
        what: String,
    },
    /// A PKCS#11 URI that names no key on a token.
    #[error("not a usable PKCS#11 URI: {what}")]
    TokenUri {
        /// The reason.
        what: String,
    },
    /// A token that does not give its key.
    #[error("{what}")]
    Token {
        /// The reason.
        what: String,
    },
    /// The private key is encrypted and no passphrase was given.
    #[error("the private key is encrypted and needs a passphrase")]
    PassphraseNeeded,
    /// The certificate speaks of another key.
    #[error("the private key ({key}) is not that of the certificate `{subject}` ({certificate})")]
    KeyMismatch {
        /// Kind and fingerprint of the private key's public half.
        key: String,
        /// Whom the certificate names.
        subject: String,
        /// Kind and fingerprint of the certificate's key.
        certificate: String,
    },
}

impl Error {
    /// An [`Error::PrivateKey`].
    pub(crate) fn private_key(what: impl ToString) -> Self {
        Self::PrivateKey {
            what: what.to_string(),
        }
    }

    /// An [`Error::Certificate`].
    pub(crate) fn certificate(what: impl ToString) -> Self {
        Self::Certificate {
            what: what.to_string(),
        }
    }

    /// An [`Error::Content`].
    pub(crate) fn content(what: impl ToString) -> Self {
        Self::Content {
            what: what.to_string(),
        }
    }
}
