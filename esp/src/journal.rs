//! The journal of one change, as it lies on the ESP. Text: two lines, then JSON.
//!
//! ```text
//! ukikit change 1
//! sha256 HEX                     of everything behind this line
//! {"steps":[…],"made":[…],"owned":{…}}
//! ```
//!
//! A journal that does not bear its own hash was not written to its end: its change never began. The ESP
//! can be written by anybody, so every path in it is held against the rules of FAT and leads down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::{Content, hexadecimal};
use crate::target::broken_rule;

/// Everything a change does, and who owns what afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// In the order in which they are made.
    pub(crate) steps: Vec<Step>,
    /// Directories the change makes, each behind the one it lies in.
    pub(crate) made: Vec<String>,
    /// What ukikit has placed, after the change, by path.
    pub(crate) owned: Ledger,
}

/// What ukikit has placed, by path.
pub(crate) type Ledger = BTreeMap<String, Owned>;

/// A file ukikit has placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owned {
    /// What it held when it was placed: it is ours only as long as it does.
    #[serde(flatten)]
    pub(crate) content: Content,
    /// The UKIs it is there for; empty for a file that stays until it is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) needed_by: Vec<String>,
}

/// What happens to one file: added without `before`, removed without `after`, else replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) path: String,
    pub(crate) before: Option<Content>,
    pub(crate) after: Option<Content>,
}

const FIRST_LINE: &str = "ukikit change 1\n";
const HASH: &str = "sha256 ";

impl Journal {
    /// Its bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and maps with text for keys: nothing that JSON could not hold.
        let body = serde_json::to_string(self).unwrap_or_default();
        let hash = hexadecimal(&Sha256::digest(body.as_bytes()));
        format!("{FIRST_LINE}{HASH}{hash}\n{body}").into_bytes()
    }

    /// Reads one; `None` for one that is not whole, or that says what ukikit never would.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let rest = text.strip_prefix(FIRST_LINE)?.strip_prefix(HASH)?;
        let (hash, body) = rest.split_once('\n')?;
        if hexadecimal(&Sha256::digest(body.as_bytes())) != hash {
            return None;
        }
        let journal: Self = serde_json::from_str(body).ok()?;
        let leads_down = journal.paths().all(leads_down);
        leads_down.then_some(journal)
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        let steps = self.steps.iter().map(|step| &step.path);
        steps
            .chain(&self.made)
            .chain(self.owned.keys())
            .map(String::as_str)
    }
}

fn leads_down(path: &str) -> bool {
    let good = |name: &str| !name.is_empty() && broken_rule(name).is_none();
    path.split('/').all(good)
}

/// Whether these bytes are read as a journal and written as the same bytes again. For the fuzzer.
#[doc(hidden)]
pub fn journal_round_trip(bytes: &[u8]) -> Option<bool> {
    let journal = Journal::parse(bytes)?;
    Some(Journal::parse(&journal.to_bytes()).as_ref() == Some(&journal))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn journal(path: &str) -> Journal {
        let content = Content::of(b"new");
        Journal {
            steps: vec![Step {
                path: path.to_owned(),
                before: None,
                after: Some(content.clone()),
            }],
            made: vec!["loader".to_owned()],
            owned: Ledger::from([(
                path.to_owned(),
                Owned {
                    content,
                    needed_by: vec!["EFI/Linux/a.efi".to_owned()],
                },
            )]),
        }
    }

    #[test]
    fn is_read_back_only_whole() {
        let journal = journal("loader/credentials/a.cred");
        let bytes = journal.to_bytes();
        assert_eq!(Journal::parse(&bytes), Some(journal));
        for end in 0..bytes.len() {
            assert_eq!(Journal::parse(&bytes[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn leads_nowhere_else() {
        for path in [
            "../etc/passwd",
            "/etc/passwd",
            "a//b",
            "loader/..",
            "",
            "a\0b",
            ".",
        ] {
            assert_eq!(Journal::parse(&journal(path).to_bytes()), None, "{path:?}");
        }
    }

    proptest! {
        /// Any bytes: no panic; what is read is written as what is read again.
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), flip in any::<prop::sample::Index>()) {
            prop_assert_ne!(journal_round_trip(&bytes), Some(false));
            let mut damaged = journal("a").to_bytes();
            let at = flip.index(damaged.len());
            damaged[at] ^= 1;
            prop_assert_eq!(Journal::parse(&damaged), None);
        }
    }
}
