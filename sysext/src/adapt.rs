//! From the files of an initrd with a feature to the files of an extension for one without it.
//!
//! ```text
//! content ─ minus the base ─ rules ─ extension      one Step for each path that differs
//! ```

mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::finding::Findings;
use crate::initrd::{Facts, Support};
use crate::tree::{join, name, parent};
use crate::{Check, Entry, Error, Kind, Name, Tree};
use rules::Rule;

/// Bytes of a file that are compared at once.
const COMPARED: usize = 64 << 10;

/// What became of some content.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Adapted {
    /// What goes into the extension.
    pub tree: Tree,
    /// What was decided, in the order of the paths. Directories that only hold others are not listed.
    pub steps: Vec<Step>,
}

/// What was decided about one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// Where it was.
    pub path: String,
    /// Where it went.
    #[serde(flatten)]
    pub action: Action,
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
#[non_exhaustive]
pub enum Action {
    /// Into the extension, at the same place.
    Keep,
    /// The base has the same.
    Same,
    /// Into the extension, elsewhere.
    Move {
        /// The new path.
        to: String,
    },
    /// Into `usr/share/factory`, from where `systemd-tmpfiles` copies it.
    Copy {
        /// The path in the extension.
        to: String,
    },
    /// `systemd-tmpfiles` makes the directory or link.
    Make,
    /// Nowhere.
    Drop {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.action {
            Action::Keep => write!(f, "keep  {path}"),
            Action::Same => write!(f, "same  {path}"),
            Action::Move { to } => write!(f, "move  {path} -> {to}"),
            Action::Copy { to } => {
                write!(f, "copy  {path} -> {to}, from there by systemd-tmpfiles")
            }
            Action::Make => write!(f, "make  {path}, by systemd-tmpfiles"),
            Action::Drop { reason } => write!(f, "drop  {path}: {reason}"),
        }
    }
}

impl Tree {
    /// What this tree has and `base` has not, or has differently: kind, mode, content, target. Owners and times
    /// do not count. Directories are left out unless they are empty here and missing there.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] for a file that cannot be read.
    pub fn minus(&self, base: &Tree) -> Result<Tree, Error> {
        let mut rest = Tree::new();
        let mut full: BTreeSet<&[u8]> = BTreeSet::new();
        full.extend(self.iter().map(|(path, _)| parent(path)));
        for (path, entry) in self.iter() {
            let unwanted = match base.get(path) {
                _ if path.is_empty() => true,
                _ if entry.is_directory() && full.contains(path) => true,
                Some(other) if entry.is_directory() => other.is_directory(),
                Some(other) => same(entry, other)?,
                None => false,
            };
            if !unwanted {
                rest.insert(path, entry.clone())?;
            }
        }
        Ok(rest)
    }
}

/// Makes an extension of `content`, files as an initrd holds them, for the initrd `base`. `name` is the
/// extension's, for the files that are added.
///
/// # Errors
///
/// [`Error::Refused`] with each file that changes one of the base, or that has no place in an extension;
/// [`Error::Read`] for a file that cannot be read.
pub fn adapt(content: &Tree, base: &Tree, facts: &Facts, name: &Name) -> Result<Adapted, Error> {
    let content = in_place(content, base)?;
    let mut adapting = Adapting {
        content: &content,
        base,
        facts,
        adapted: Adapted {
            tree: Tree::new(),
            steps: Vec::new(),
        },
        tmpfiles: Vec::new(),
        findings: Findings::default(),
    };
    let rest = content.minus(base)?;
    for (path, entry) in content.iter().filter(|(_, entry)| !entry.is_directory()) {
        match rest.get(path) {
            Some(_) => adapting.take(path, entry)?,
            None => adapting.note(path, Action::Same),
        }
    }
    let nothing_in = |path: &[u8]| !rest.iter().any(|(other, _)| parent(other) == path);
    for (path, entry) in rest
        .iter()
        .filter(|(path, entry)| !path.is_empty() && entry.is_directory() && nothing_in(path))
    {
        adapting.take_directory(path, entry)?;
    }
    adapting.finish(name)
}

/// The same files below the directories that the base's links lead to: `lib/x` in `usr/lib/x`.
pub(crate) fn in_place(content: &Tree, base: &Tree) -> Result<Tree, Error> {
    let mut placed = Tree::new();
    for (path, entry) in content.iter().filter(|(path, _)| !path.is_empty()) {
        let is_link = base
            .get(path)
            .is_some_and(|other| matches!(other.kind, Kind::Symlink(_)));
        if is_link && entry.is_directory() {
            continue;
        }
        placed.insert(place(path, base), entry.clone())?;
    }
    Ok(placed)
}

/// Follows the base's links in the directory part of `path`, as far as the base has it.
fn place(path: &[u8], base: &Tree) -> Vec<u8> {
    let directory = parent(path);
    if directory.is_empty() {
        return path.to_vec();
    }
    let found = base.resolve(directory);
    let found = found.unwrap_or_else(|| place(directory, base));
    join(&found, name(path))
}

/// Whether both are the same to whoever opens them.
pub(crate) fn same(one: &Entry, other: &Entry) -> Result<bool, Error> {
    let alike = match (&one.kind, &other.kind) {
        (Kind::Symlink(one), Kind::Symlink(other)) => return Ok(one == other),
        (Kind::File(a), Kind::File(b)) => a.size() == b.size() && same_bytes(a, b)?,
        (Kind::Directory, Kind::Directory) | (Kind::Fifo, Kind::Fifo) => true,
        (Kind::CharDevice { major, minor }, Kind::CharDevice { major: a, minor: b })
        | (Kind::BlockDevice { major, minor }, Kind::BlockDevice { major: a, minor: b }) => {
            (major, minor) == (a, b)
        }
        _ => false,
    };
    // dracut takes write permission away, packages do not; and run by somebody it takes away what makes mount(8) root's,
    // which means nothing where all are root. Only who may run it matters.
    Ok(alike && one.mode & 0o111 == other.mode & 0o111)
}

fn same_bytes(one: &crate::Content, other: &crate::Content) -> Result<bool, Error> {
    let (mut one, mut other) = (one.open()?, other.open()?);
    let (mut a, mut b) = (vec![0; COMPARED], vec![0; COMPARED]);
    while one.left() > 0 {
        let len = usize::try_from(one.left())
            .unwrap_or(COMPARED)
            .min(COMPARED);
        let (a, b) = (a.split_at_mut(len).0, b.split_at_mut(len).0);
        one.fill(a)?;
        other.fill(b)?;
        if a != b {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The work of [`adapt`] so far.
struct Adapting<'a> {
    content: &'a Tree,
    base: &'a Tree,
    facts: &'a Facts,
    adapted: Adapted,
    tmpfiles: Vec<String>,
    findings: Findings,
}

impl Adapting<'_> {
    fn take(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        let changed = self.base.get(path).is_some();
        let rule = rules::of(path, changed);
        let to = String::from_utf8_lossy(path).into_owned();
        match rule {
            Rule::Keep => {
                let entry = self.straight(path, entry);
                self.adapted.tree.insert(path, entry)?;
                self.note(path, Action::Keep);
            }
            Rule::Index => self.take_index(path, entry)?,
            Rule::Hook => self.take_hook(path, entry)?,
            Rule::Move(from, into) => {
                let to = to.replacen(from, into, 1);
                self.adapted.tree.insert(&to, entry.clone())?;
                self.note(path, Action::Move { to });
            }
            Rule::Factory if matches!(entry.kind, Kind::Symlink(_)) => self.link(path, entry),
            Rule::Factory => {
                self.tmpfiles.push(format!("C /{} - - - - -", escaped(&to)));
                let to = format!("usr/share/factory/{to}");
                self.adapted.tree.insert(&to, entry.clone())?;
                self.note(path, Action::Copy { to });
            }
            Rule::Drop(reason) => self.drop(path, reason),
            Rule::DropLink(reason) if is_link(Some(entry)) && is_link(self.base.get(path)) => {
                self.drop(path, reason);
            }
            Rule::DropLink(_) => self.findings.add(Check::Base, to, rules::DIFFERS),
            Rule::Refuse(what) => self.findings.add(Check::Base, to, what),
        }
        Ok(())
    }

    fn link(&mut self, path: &[u8], entry: &Entry) {
        if let Kind::Symlink(target) = &entry.kind {
            let [path, target] = [path, target].map(|text| escaped(&String::from_utf8_lossy(text)));
            self.tmpfiles.push(format!("L /{path} - - - - {target}"));
        }
        self.note(path, Action::Make);
    }

    /// A link that leads through `etc`, as those of alternatives do, leads straight to its file: `etc` is not the
    /// extension's, and what comes there by `systemd-tmpfiles` comes late.
    fn straight(&self, path: &[u8], entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        if let Kind::Symlink(target) = &mut entry.kind
            && leads_to(path, target).starts_with(b"etc/")
            && let Some(file) = self.content.resolve(path)
            && !file.starts_with(b"etc/")
        {
            *target = [b"/", &file[..]].concat();
        }
        entry
    }

    /// The index of a base that has all of it serves every extension; else it is complete in each.
    fn take_index(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        if self.complete_index(path) {
            self.drop(path, "the base's index has all modules");
            return Ok(());
        }
        self.adapted.tree.insert(path, entry.clone())?;
        self.note(path, Action::Keep);
        Ok(())
    }

    fn complete_index(&self, path: &[u8]) -> bool {
        let version = name(parent(path));
        let version = str::from_utf8(version).ok();
        let kernel = version.and_then(|version| self.facts.kernel(Some(version)));
        kernel.is_some_and(|kernel| kernel.index == crate::initrd::ModuleIndex::Complete)
    }

    fn take_hook(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        let (stage, rest) = rules::hook(path).unwrap_or_default();
        if let Some(replacement) = rules::replacement(stage) {
            let reason =
                format!("its stage {stage} is over before extensions are merged; {replacement}");
            self.drop(path, reason);
        } else if let Some(Kind::Symlink(_)) = self.base.get(HOOKS).map(|entry| &entry.kind) {
            self.drop(
                path,
                "the base's usr/lib/dracut/hooks is a link that this would hide",
            );
        } else {
            let to = format!("{HOOKS}/{stage}/{rest}");
            self.adapted.tree.insert(&to, entry.clone())?;
            let action = if to.as_bytes() == path {
                Action::Keep
            } else {
                Action::Move { to }
            };
            self.note(path, action);
        }
        Ok(())
    }

    /// An empty directory is state that something writes to.
    fn take_directory(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        if path.starts_with(b"usr/") || path.starts_with(b"opt/") {
            self.adapted.tree.insert(path, entry.clone())?;
            self.note(path, Action::Keep);
        } else if rules::is_runtime(path) {
            self.drop(path, "is mounted over or made while booting");
        } else {
            let shown = String::from_utf8_lossy(path);
            let (path_text, mode) = (escaped(&shown), entry.mode);
            self.tmpfiles
                .push(format!("d /{path_text} {mode:04o} root root - -"));
            self.note(path, Action::Make);
        }
        Ok(())
    }

    fn drop(&mut self, path: &[u8], reason: impl Into<String>) {
        let reason = reason.into();
        self.note(path, Action::Drop { reason });
    }

    fn note(&mut self, path: &[u8], action: Action) {
        let path = String::from_utf8_lossy(path).into_owned();
        self.adapted.steps.push(Step { path, action });
    }

    fn finish(mut self, name: &Name) -> Result<Adapted, Error> {
        if !self.tmpfiles.is_empty() {
            let lines = self.tmpfiles.join("\n") + "\n";
            let path = format!("usr/lib/tmpfiles.d/ukikit-{name}.conf");
            self.adapted.tree.insert(path, Entry::file(lines))?;
        }
        self.adapted
            .steps
            .sort_by(|one, other| one.path.cmp(&other.path));
        self.findings.verdict(self.adapted)
    }
}

fn is_link(entry: Option<&Entry>) -> bool {
    matches!(entry.map(|entry| &entry.kind), Some(Kind::Symlink(_)))
}

/// Where dracut 112 reads the hooks of packages and extensions.
const HOOKS: &str = "usr/lib/dracut/hooks";

/// Where a link leads at first, without a look at other links.
pub(crate) fn leads_to(link: &[u8], target: &[u8]) -> Vec<u8> {
    let mut reached = match target.first() {
        Some(b'/') => Vec::new(),
        _ => parent(link).to_vec(),
    };
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => reached.truncate(parent(&reached).len()),
            part => reached = join(&reached, part),
        }
    }
    reached
}

/// A path for tmpfiles.d: blanks and specifiers mean something there.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\")
        .replace(' ', "\\x20")
        .replace('%', "%%")
}

/// Whether a kernel module of this name is in the base or built in.
pub(crate) fn drives(facts: &Facts, version: &str, driver: &str) -> bool {
    facts
        .kernel(Some(version))
        .is_some_and(|kernel| matches!(kernel.support(driver), Support::Module | Support::BuiltIn))
}
