//! Values that several arguments share.

use std::time::Duration;

/// Reads a boolean as YAML 1.2 and people write it.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" | "on" => Ok(true),
        "false" | "no" | "0" | "off" => Ok(false),
        _ => Err("write `true` or `false`".to_owned()),
    }
}

/// Reads a duration: `90s`, `10m`, `1h30m`, or seconds as a plain number.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || "write a duration such as `90s`, `10m` or `1h`".to_owned();
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| refuse())?;
    Duration::try_from(span).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let table = [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("0s", 0)];

        for (text, seconds) in table {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(duration("-1m").is_err() && duration("soon").is_err() && duration("").is_err());
    }
}
