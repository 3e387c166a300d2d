//! The writers' lines: `NODE TURN SEQUENCE TIME`.

use std::fmt;
use std::str;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Who wrote it.
    pub(crate) node: String,
    /// Uptime at the start of the writer, in nanoseconds: turns have an order.
    pub(crate) turn: u64,
    /// Goes up by one from line to line, over all turns.
    pub(crate) sequence: u64,
    /// Uptime just before the line was written, in nanoseconds.
    pub(crate) time: u64,
}

impl Line {
    /// None: not a whole line of a writer.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let node = fields.next().filter(|node| !node.is_empty())?.to_owned();
        let mut number = || fields.next()?.parse().ok();
        let (turn, sequence, time) = (number()?, number()?, number()?);
        fields.next().is_none().then_some(Self {
            node,
            turn,
            sequence,
            time,
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            turn,
            sequence,
            time,
        } = self;
        write!(f, "{node} {turn} {sequence} {time}")
    }
}

/// A file's lines; what is not one is `None`. Text after the last line's end is still being written and is left out.
pub(crate) fn whole_lines(bytes: &[u8]) -> Vec<Option<Line>> {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let whole = end.and_then(|end| bytes.get(..end)).unwrap_or_default();
    if end.is_none() {
        return Vec::new();
    }
    whole
        .split(|byte| *byte == b'\n')
        .map(|line| Line::parse(str::from_utf8(line).ok()?))
        .collect()
}

/// Is each line the successor of the one before? One sentence for each that is not.
///
/// What a power cut tore is no line; it may stand only at a turn's end, where the next writer found it.
pub(crate) fn order(lines: &[Option<Line>]) -> Vec<(Disorder, String)> {
    let mut found = Vec::new();
    let mut before: Option<&Line> = None;
    let mut torn = false;
    for line in lines {
        let Some(line) = line else {
            torn = true;
            continue;
        };
        if let Some(before) = before {
            if line.turn < before.turn || (line.turn == before.turn && line.node != before.node) {
                let text = format!("'{line}' stands behind '{before}'");
                found.push((Disorder::Interleaved, text));
            } else if before.sequence.checked_add(1) != Some(line.sequence) {
                let text = format!("'{line}' follows '{before}'");
                found.push((Disorder::Hole, text));
            } else if torn && line.turn == before.turn {
                let text = format!("something torn stands between '{before}' and '{line}'");
                found.push((Disorder::Hole, text));
            }
        }
        torn = false;
        before = Some(line);
    }
    found
}

/// What is wrong with the order of two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disorder {
    /// An earlier turn goes on behind a later one, or two nodes share a turn.
    Interleaved,
    /// The sequence does not go up by one.
    Hole,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(text: &str) -> Vec<Disorder> {
        let found = order(&whole_lines(text.as_bytes()));
        found.into_iter().map(|(what, _)| what).collect()
    }

    #[test]
    fn a_line_comes_back_as_it_went() {
        let line = Line::parse("swarm01 7 3 99").unwrap();
        assert_eq!(line.to_string(), "swarm01 7 3 99");
        for bad in ["", "a 1 2", "a 1 2 3 4", " 1 2 3", "a 1 -2 3", "a 1 2 3x"] {
            assert_eq!(Line::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn turns_that_follow_each_other_are_in_order() {
        assert_eq!(
            orders("a 1 1 10\na 1 2 11\nb 5 3 12\nb 5 4 13\na 9 5 14\n"),
            []
        );
        assert_eq!(orders("a 1 1 10\na 1 2"), [], "the last one is on its way");
        assert_eq!(orders(""), []);
    }

    #[test]
    fn an_earlier_turn_behind_a_later_one_is_interleaved() {
        assert_eq!(
            orders("a 1 1 10\nb 5 2 12\na 1 2 13\n"),
            [Disorder::Interleaved]
        );
        assert_eq!(orders("a 1 1 10\nb 1 2 12\n"), [Disorder::Interleaved]);
    }

    #[test]
    fn a_missing_or_repeated_sequence_is_a_hole() {
        assert_eq!(orders("a 1 1 10\na 1 3 12\n"), [Disorder::Hole]);
        assert_eq!(orders("a 1 1 10\nb 2 1 12\n"), [Disorder::Hole]);
    }

    #[test]
    fn what_a_power_cut_tore_may_stand_only_between_turns() {
        assert_eq!(orders("a 1 1 10\na 1 \nb 2 2 12\n"), []);
        assert_eq!(orders("a 1 1 10\n\0\0\0\na 1 2 12\n"), [Disorder::Hole]);
    }
}
