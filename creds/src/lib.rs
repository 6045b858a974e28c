//! What a systemd credential is.
