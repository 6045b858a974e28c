//! Placeholder until the rules arrive.

/// The rule a file name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameRule {
    /// Not ASCII.
    #[error("it has characters beyond ASCII, and the stub skips such names")]
    NotAscii,
}

/// The rule a path breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathRule {
    /// Empty.
    #[error("it is empty")]
    Empty,
}
