//! How the original spelled sizes and absent things.

/// Where a value is missing.
pub(crate) const NOT_AVAILABLE: &str = "N/A";
/// A limit that is none.
pub(crate) const UNSET: &str = "Unset";

/// A size with two decimals, rounded as Python rounds: `500.00MB`; below a kilobyte without.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TB", 1 << 40),
        ("GB", 1 << 30),
        ("MB", 1 << 20),
        ("KB", 1 << 10),
    ];
    for (unit, one) in UNITS {
        if bytes >= one {
            return format!("{:.2}{unit}", bytes as f64 / one as f64);
        }
    }
    format!("{bytes}B")
}

/// The text, or that there is none.
pub(crate) fn or_not(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty())
        .unwrap_or(NOT_AVAILABLE)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_decimals() {
        for (bytes, text) in [
            (0, "0B"),
            (5, "5B"),
            (1023, "1023B"),
            (1 << 10, "1.00KB"),
            (500 << 20, "500.00MB"),
            (1 << 30, "1.00GB"),
            ((1 << 30) + (1 << 29), "1.50GB"),
            (1 << 40, "1.00TB"),
            (2048 << 40, "2048.00TB"),
            // Not cut to 1.66.
            (1710 << 20, "1.67GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
