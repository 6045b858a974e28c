//! What `encrypt` and `reencrypt` refuse although it could be made: nobody would read it.

use anyhow::{Result, anyhow};
use ukikit::delivery::Objection;
use ukikit_creds::Name;
use ukikit_creds::catalog::WellKnown;

use crate::output::{Output, with_hint};

const FORCE: &str = "--force makes it all the same";

/// Says every objection; the first fatal one ends it, unless forced.
pub(super) fn raise(
    objections: impl IntoIterator<Item = Objection>,
    force: bool,
    out: &mut Output,
) -> Result<()> {
    for Objection {
        fatal,
        reason,
        remedy,
    } in objections
    {
        if fatal && !force {
            return Err(with_hint(anyhow!(reason), remedy.unwrap_or(FORCE)));
        }
        out.warning(reason);
    }
    Ok(())
}

/// Checks that the reader of a well-known name takes this plaintext.
pub(super) fn check_content(name: Option<&Name>, plaintext: &[u8]) -> Result<()> {
    let Some((name, entry)) = name.and_then(|name| Some((name, WellKnown::find(name)?))) else {
        return Ok(());
    };
    entry.check(name, plaintext).map_err(|violation| {
        let (program, content) = (entry.program, entry.content.as_str());
        with_hint(
            anyhow!("{program} would not take this as {name} ({content}): {violation}"),
            FORCE,
        )
    })
}
