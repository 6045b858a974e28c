//! Moments as `--timestamp=` and `--not-after=` take them (systemd.time(7), the forms that name one moment).

use anyhow::{Result, anyhow, bail};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use ukikit_creds::Timestamp;

/// Reads `now`, `@SECONDS`, `+SPAN`, `-SPAN`, `SPAN ago`, `YYYY-MM-DD[ HH:MM[:SS]][ UTC]` or an RFC 3339 time.
///
/// Spans and times without a zone are reckoned from `now`, in the local zone.
///
/// # Errors
///
/// When the text is something else, or names a moment before 1970.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds_since_1970(seconds).ok_or_else(|| refusal(text));
    }
    let now = zoned(now)?;
    let moment = match text {
        "now" => now,
        _ => match (
            text.strip_prefix('+'),
            text.strip_prefix('-').or_else(|| text.strip_suffix(" ago")),
        ) {
            (Some(span), _) => now.checked_add(parse_span(span, text)?)?,
            (None, Some(span)) => now.checked_sub(parse_span(span, text)?)?,
            (None, None) => civil(text)?,
        },
    };
    let micros = u64::try_from(moment.timestamp().as_microsecond());
    Ok(Timestamp::from_micros(
        micros.map_err(|_| anyhow!("{text:?} lies before 1970"))?,
    ))
}

/// The moment for people: date and time in UTC.
pub fn show(moment: Timestamp) -> String {
    let shown = i64::try_from(moment.as_micros())
        .ok()
        .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    shown.map_or_else(
        || moment.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

/// The moment for programs, as RFC 3339 has it, in UTC.
pub fn rfc3339(moment: Timestamp) -> String {
    let micros = i64::try_from(moment.as_micros()).ok();
    let time = micros.and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    time.map_or_else(|| moment.to_string(), |time| time.to_string())
}

/// `SECONDS` or `SECONDS.FRACTION`, exact to the microsecond.
fn seconds_since_1970(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: u64 = format!("{fraction:0<6}").parse().ok()?;
    let seconds: u64 = seconds.parse().ok()?;
    seconds
        .checked_mul(1_000_000)?
        .checked_add(micros)
        .map(Timestamp::from_micros)
}

fn zoned(now: Timestamp) -> Result<Zoned> {
    let micros = i64::try_from(now.as_micros())?;
    Ok(jiff::Timestamp::from_microsecond(micros)?.to_zoned(TimeZone::system()))
}

fn parse_span(span: &str, whole: &str) -> Result<Span> {
    span.trim().parse().map_err(|_| refusal(whole))
}

fn civil(text: &str) -> Result<Zoned> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(moment.to_zoned(TimeZone::UTC));
    }
    let (text_without_zone, zone) = match text.strip_suffix(" UTC") {
        Some(text) => (text, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    match text_without_zone.parse::<jiff::civil::DateTime>() {
        Ok(time) => Ok(time.to_zoned(zone)?),
        Err(_) => bail!(refusal(text)),
    }
}

fn refusal(text: &str) -> anyhow::Error {
    anyhow!("{text:?} is not a time such as @1700000000, 2027-01-31 12:00 UTC or +30d")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn moments_are_read_in_systemds_forms() {
        for (text, micros) in [
            ("now", 1_700_000_000_000_000),
            ("@5", 5_000_000),
            ("@5.25", 5_250_000),
            ("@5.000001", 5_000_001),
            ("+1h", 1_700_003_600_000_000),
            ("+30d", 1_702_592_000_000_000),
            ("2h ago", 1_699_992_800_000_000),
            ("-2h", 1_699_992_800_000_000),
            ("2023-11-14 22:13:20 UTC", 1_700_000_000_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000),
            ("2023-11-15 UTC", 1_700_006_400_000_000),
        ] {
            assert_eq!(parse(text, NOW).unwrap().as_micros(), micros, "{text}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["", "@", "@x", "@1.1234567", "soon", "+", "2023-13-01"] {
            let error = parse(text, NOW).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{text:?} is not a time such as @1700000000, 2027-01-31 12:00 UTC or +30d")
            );
        }
        assert_eq!(
            parse("1960-01-01 UTC", NOW).unwrap_err().to_string(),
            "\"1960-01-01 UTC\" lies before 1970"
        );
    }

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(show(NOW), "2023-11-14 22:13:20 UTC");
    }
}
