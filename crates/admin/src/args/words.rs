//! Things that may be named with a flag or by their place on the line.

use vdvs_domain::ErrorKind;

use crate::failure::Failure;

/// Gives each flag that is missing the next of the words, in order. Then `vm add dev vm1`, `vm add --name=dev vm1` and
/// `vm add --name=dev --vm-list=vm1` are the same.
///
/// # Errors
/// [`Failure`]: a word too many.
pub(super) fn fill<const N: usize>(
    mut flags: [Option<String>; N],
    words: impl IntoIterator<Item = String>,
) -> Result<[Option<String>; N], Failure> {
    let mut words = words.into_iter();
    for flag in flags.iter_mut().filter(|flag| flag.is_none()) {
        *flag = words.next();
    }
    match words.next() {
        None => Ok(flags),
        Some(word) => Err(Failure::new(
            ErrorKind::InvalidArgument,
            format!(
                "'{word}' is one word too many; words with blanks need quotes, and --help shows what may be said"
            ),
        )),
    }
}

/// What must be said.
///
/// # Errors
/// [`Failure`]: it is missing; `flag` says how it is said.
pub fn required(value: Option<String>, flag: &str) -> Result<String, Failure> {
    value.ok_or_else(|| {
        Failure::new(
            ErrorKind::InvalidArgument,
            format!("{flag} is missing; --help shows what must be said"),
        )
    })
}

/// The parts of a list; commas separate them, blanks around them do not count.
pub(super) fn list(texts: &[String]) -> Vec<String> {
    let parts = texts.iter().flat_map(|text| text.split(','));
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn words_take_the_places_that_flags_left() {
        let fill = |flags, words: &[&str]| fill::<2>(flags, words.iter().map(|w| (*w).to_owned()));
        assert_eq!(
            fill([None, None], &["a", "b"]).unwrap(),
            [own("a"), own("b")]
        );
        assert_eq!(
            fill([own("x"), None], &["b"]).unwrap(),
            [own("x"), own("b")]
        );
        assert_eq!(
            fill([None, own("y")], &["a"]).unwrap(),
            [own("a"), own("y")]
        );
        assert_eq!(fill([own("x"), None], &[]).unwrap(), [own("x"), None]);
        assert!(
            fill([own("x"), own("y")], &["c"])
                .unwrap_err()
                .text
                .contains("'c'")
        );
    }
}
