//! A key on a PKCS#11 token: its PIN from a file, or typed without showing.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use ukikit_signing::{TokenKey, TokenUri};

use super::passphrase;
use crate::output::with_hint;

/// Opens the key; `pin_file` goes before the `pin-source=` of the URI.
pub(super) fn open(uri: &TokenUri, pin_file: Option<&Path>) -> Result<TokenKey> {
    let pin = match pin_file.or(uri.pin_source.as_deref()) {
        Some(path) => passphrase::of_file(path)?,
        None => {
            let token = uri.token.as_deref().unwrap_or("the token");
            let no_terminal = with_hint(
                anyhow!("the token needs its PIN"),
                "there is no terminal to ask on: give --passphrase-file=, or pin-source= in the URI",
            );
            passphrase::ask(&format!("PIN of {token}: "), no_terminal)?
        }
    };
    TokenKey::open(uri, &pin).context("cannot use the key on the token")
}
