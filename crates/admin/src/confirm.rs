//! The question before something is removed.

use std::io::{self, BufRead, Write};

/// Asks; only `y` or `yes` is a yes, and the end of the input is a no.
///
/// # Errors
/// The terminal's.
pub fn ask(input: &mut impl BufRead, output: &mut impl Write, question: &str) -> io::Result<bool> {
    write!(output, "{question} [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    let answer = answer.trim();
    Ok(answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in [
            ("y\n", true),
            ("YES\n", true),
            (" yes \r\n", true),
            ("\n", false),
            ("", false),
            ("yess\n", false),
            ("n\n", false),
        ] {
            let mut shown = Vec::new();
            let got = ask(&mut answer.as_bytes(), &mut shown, "Remove it?").unwrap();
            assert_eq!(got, expected, "{answer:?}");
            assert_eq!(shown, b"Remove it? [y/N] ");
        }
    }
}
