//! Signed extension images.
