//! Finds one block in PEM text (RFC 7468), whatever stands before and behind it.

/// The first block whose label ends with `kind`, both its lines included.
pub(crate) fn block<'a>(text: &'a str, kind: &str) -> Option<&'a str> {
    let ends_label = format!("{kind}-----");
    let label = text.find(&ends_label)?;
    let start = text.get(..label)?.rfind("-----BEGIN ")?;
    let block = text.get(start..)?;
    let end_line = block.find("-----END ")?;
    let end = block.get(end_line..)?.find(&ends_label)?;
    block.get(..end_line + end + ends_label.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_of_its_kind_alone() {
        let text = "a\n-----BEGIN EC PARAMETERS-----\nx\n-----END EC PARAMETERS-----\n\
                    -----BEGIN EC PRIVATE KEY-----\ny\n-----END EC PRIVATE KEY-----\nb\n\
                    -----BEGIN PRIVATE KEY-----\nz\n-----END PRIVATE KEY-----\n";
        assert_eq!(
            block(text, "PRIVATE KEY"),
            Some("-----BEGIN EC PRIVATE KEY-----\ny\n-----END EC PRIVATE KEY-----")
        );
        for bad in [
            "",
            "PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nz\n",
            "-----BEGIN PRIVATE KEY-----\nz\n-----END CERTIFICATE-----",
        ] {
            assert_eq!(block(bad, "PRIVATE KEY"), None);
        }
    }
}
