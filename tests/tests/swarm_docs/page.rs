//! A page of documentation as a list of steps.
//!
//! A fenced `console` block is run, and what it shows is compared; a fenced block under `file NAME` is written to a
//! file first. The comment before a block says where it runs:
//!
//! ```text
//! <!-- guest -->            in the first node            <!-- other guest -->   in the second
//! <!-- host -->             on the host                  <!-- file notes.yml --> a file for the commands that follow
//! <!-- guest until -->      again until it shows that    <!-- guest fails -->   the command is refused
//! <!-- not run: why -->     cannot run in a lab
//! ```
//! In shown output `…` stands for anything, and a line of only `…` for any lines. A block that shows nothing is only
//! run. A `console` block without such a comment is a mistake in the page.

use anyhow::{Context, Result, bail, ensure};

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first node.
    Guest,
    /// The second node.
    OtherGuest,
    /// The machine that plays the host.
    Host,
}

/// How a command is meant to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It succeeds.
    Well,
    /// It is refused.
    Refused,
    /// It succeeds and shows this at last.
    Until,
}

/// One thing a reader does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Writes a file.
    File {
        /// Its name.
        name: String,
        /// Its text.
        text: String,
    },
    /// Runs a command.
    Run {
        /// Line of the page, from 1.
        line: usize,
        /// Where.
        place: Place,
        /// How it ends.
        end: End,
        /// The command.
        command: String,
        /// What the page shows; empty: nothing.
        shown: Vec<String>,
    },
    /// Not run, with the reason.
    Skip {
        /// Line of the page.
        line: usize,
        /// Why.
        why: String,
    },
}

/// The steps of a page.
///
/// # Errors
/// A block that says not where it runs, or a comment nobody understands.
pub(crate) fn steps(page: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut comment = None;
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(text) = line
            .strip_prefix("<!-- ")
            .and_then(|l| l.strip_suffix(" -->"))
        {
            comment = Some(text.to_owned());
            continue;
        }
        let Some(language) = line.strip_prefix("```") else {
            if !line.is_empty() {
                comment = None;
            }
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .map(|(_, l)| l)
            .take_while(|l| *l != "```")
            .collect();
        let said = comment.take();
        ensure!(
            language != "console" || said.is_some(),
            "line {}: a console block does not say where it runs",
            at + 1
        );
        if let Some(said) = said {
            add(&mut steps, &said, &block, at + 2).with_context(|| format!("line {}", at + 1))?;
        }
    }
    Ok(steps)
}

fn add(steps: &mut Vec<Step>, comment: &str, block: &[&str], line: usize) -> Result<()> {
    if let Some(why) = comment.strip_prefix("not run: ") {
        let why = why.to_owned();
        steps.push(Step::Skip { line, why });
        return Ok(());
    }
    if let Some(name) = comment.strip_prefix("file ") {
        ensure!(!name.contains('/'), "'{name}' is not a plain file name");
        let (name, text) = (name.to_owned(), block.join("\n") + "\n");
        steps.push(Step::File { name, text });
        return Ok(());
    }
    let (place, end) = match comment {
        "guest" => (Place::Guest, End::Well),
        "guest until" => (Place::Guest, End::Until),
        "guest fails" => (Place::Guest, End::Refused),
        "other guest" => (Place::OtherGuest, End::Well),
        "other guest until" => (Place::OtherGuest, End::Until),
        "other guest fails" => (Place::OtherGuest, End::Refused),
        "host" => (Place::Host, End::Well),
        "host until" => (Place::Host, End::Until),
        "host fails" => (Place::Host, End::Refused),
        other => bail!("nobody knows what '{other}' before a block means"),
    };
    commands(steps, block, line, place, end)
}

fn commands(
    steps: &mut Vec<Step>,
    block: &[&str],
    first: usize,
    place: Place,
    end: End,
) -> Result<()> {
    let mut at = 0;
    while let Some(text) = block.get(at) {
        let line = first + at;
        let mut command = text
            .strip_prefix("$ ")
            .with_context(|| format!("line {line} is neither a command nor its output"))?
            .to_owned();
        at += 1;
        while command.ends_with('\\')
            && let Some(more) = block.get(at)
        {
            command.pop();
            command.push_str(more.trim_start());
            at += 1;
        }
        let shown: Vec<String> = block
            .iter()
            .skip(at)
            .take_while(|l| !l.starts_with("$ "))
            .map(|l| (*l).to_owned())
            .collect();
        at += shown.len();
        steps.push(Step::Run {
            line,
            place,
            end,
            command,
            shown,
        });
    }
    Ok(())
}

/// Whether `said` is what the page shows.
#[must_use]
pub(crate) fn matches(shown: &[String], said: &str) -> bool {
    let said: Vec<&str> = said.lines().map(str::trim_end).collect();
    shown.is_empty() || lines_match(shown, &said)
}

fn lines_match(shown: &[String], said: &[&str]) -> bool {
    match (shown.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((pattern, rest)), _) if pattern.trim() == "…" => {
            (0..=said.len()).any(|skip| lines_match(rest, said.get(skip..).unwrap_or_default()))
        }
        (Some((pattern, patterns)), Some((line, lines))) => {
            line_matches(pattern.trim_end(), line) && lines_match(patterns, lines)
        }
        _ => false,
    }
}

/// Blanks in columns vary with their content: any run of them is as good as another.
fn line_matches(pattern: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (squeeze(pattern), squeeze(line));
    let parts: Vec<&str> = pattern.split('…').map(str::trim).collect();
    let [first, between @ .., last] = parts.as_slice() else {
        return pattern == line;
    };
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for part in between {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[test]
fn a_page_is_read_as_a_person_reads_it() {
    let page = "\
# Title\n<!-- file a.yml -->\n```yaml\nx: 1\n```\n<!-- guest -->\n```console\n$ one \\\n    two\nout …\n…\nend\n$ three\n```\n\
<!-- not run: needs a host -->\n```console\n$ reboot\n```\n```text\nfree\n```\n";
    let steps = steps(page).unwrap();
    assert_eq!(steps.len(), 4, "{steps:?}");
    let Some(Step::Run { command, shown, .. }) = steps.get(1) else {
        panic!("{steps:?}");
    };
    assert_eq!(command, "one two");
    assert!(matches(shown, "out 12 kB\nx\ny\nend\n") && matches(shown, "out 1\nend"));
    assert!(!matches(shown, "out 1\nx\n") && !matches(shown, "in 1\nend"));
    assert!(matches(&["A …  9".to_owned()], "A   7 8   9"));
    assert!(matches(&["A … B … C".to_owned()], "A B C"));
    assert!(!matches(&["A … 9".to_owned()], "A 9 8"));
}

#[test]
fn a_command_that_does_not_say_where_it_runs_is_a_mistake_in_the_page() {
    assert!(steps("```console\n$ ls\n```\n").is_err());
    assert!(steps("<!-- somewhere -->\n```console\n$ ls\n```\n").is_err());
}
