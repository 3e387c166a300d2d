//! Time: the one place where the command line reads the clock, and how times and spans are written and read.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use vdvs_domain::ErrorKind;

use crate::failure::Failure;

/// Now, in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// RFC 3339 in UTC, in whole seconds; none for 0, which is no time.
#[must_use]
pub fn rfc3339(unix_ms: i64) -> Option<String> {
    if unix_ms == 0 {
        return None;
    }
    Timestamp::from_second(unix_ms.div_euclid(1000))
        .ok()
        .map(|t| t.to_string())
}

/// Seconds since then; 0 for a clock that runs ahead.
#[must_use]
pub fn age_s(unix_ms: i64) -> u64 {
    u64::try_from((now_ms() - unix_ms) / 1000).unwrap_or(0)
}

/// The two largest units of a span.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// A point in time as people write it: `2026-11-21`, `2026-11-21T08:00:00Z`, or how long ago: `90s`, `15m`, `2h`, `3d`.
///
/// # Errors
/// [`Failure`] with the forms there are.
pub fn parse(text: &str) -> Result<i64, Failure> {
    absolute(text)
        .or_else(|| {
            let ago = ago(text)?;
            Some(now_ms().saturating_sub(i64::try_from(ago).ok()?.saturating_mul(1000)))
        })
        .ok_or_else(|| {
            Failure::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{text} is no time; write 2026-11-21, 2026-11-21T08:00:00Z, or how long ago: 90s, 15m, 2h, 3d"
                ),
            )
        })
}

fn absolute(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    let day: civil::Date = text.parse().ok()?;
    let at = day.to_zoned(TimeZone::UTC).ok()?;
    Some(at.timestamp().as_millisecond())
}

fn ago(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    count.checked_mul(seconds)
}

/// The original's form of a date: `Mon Aug 21 04:36:08 2017`, in UTC.
#[must_use]
pub fn ctime(rfc3339: &str) -> Option<String> {
    let at: Timestamp = rfc3339.parse().ok()?;
    Some(at.strftime("%a %b %e %H:%M:%S %Y").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (7384, "2 h 3 min"),
            (266_400, "3 d 2 h"),
        ] {
            assert_eq!(span(seconds), shown);
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse("1970-01-02").unwrap(), 86_400_000);
        assert_eq!(parse("1970-01-01T00:00:01Z").unwrap(), 1000);
        let then = parse("2h").unwrap();
        let ago = now_ms() - then;
        assert!((7_200_000..7_260_000).contains(&ago), "{ago}");
        for wrong in [
            "",
            "h",
            "2w",
            "-2h",
            "yesterday",
            "2h3",
            "999999999999999999d",
        ] {
            let failure = parse(wrong).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn no_time_is_not_1970() {
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(1999).unwrap(), "1970-01-01T00:00:01Z");
    }
}
