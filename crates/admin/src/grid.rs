//! What every answer is beside its JSON: named columns with typed cells. Tables for people, CSV and XML, filters and
//! sorting all come from here, so a column means the same everywhere.

use std::cmp::Ordering;

use vdvs_domain::capacity::human;

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name on the command line and in CSV: `attached-to`.
    pub key: &'static str,
    /// Its name in XML and, as the original wrote it, above wide tables: `Attached-to`.
    pub title: &'static str,
    /// Sizes and counts stand at the right.
    pub right: bool,
}

/// A column of texts.
#[must_use]
pub const fn text(key: &'static str, title: &'static str) -> Column {
    Column {
        key,
        title,
        right: false,
    }
}

/// A column of sizes or counts.
#[must_use]
pub const fn number(key: &'static str, title: &'static str) -> Column {
    Column {
        key,
        title,
        right: true,
    }
}

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// There is nothing, or it is not known.
    Nothing,
    /// A text.
    Text(String),
    /// Bytes.
    Size(u64),
    /// A limit in bytes; none: unlimited.
    Limit(Option<u64>),
    /// A number.
    Count(u64),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
}

impl Cell {
    /// A text; an empty one is nothing.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() {
            Self::Nothing
        } else {
            Self::Text(text)
        }
    }

    /// A text that may be missing.
    #[must_use]
    pub fn maybe(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Nothing, Self::text)
    }

    /// For people; `none` stands for nothing.
    #[must_use]
    pub fn shown(&self, none: &str) -> String {
        match self {
            Self::Nothing => none.to_owned(),
            Self::Text(text) => text.clone(),
            Self::Size(bytes) => human(*bytes),
            Self::Limit(None) => "Unset".to_owned(),
            Self::Limit(Some(bytes)) => limit(*bytes),
            Self::Count(n) => n.to_string(),
            Self::Flag(true) => "True".to_owned(),
            Self::Flag(false) => "False".to_owned(),
            Self::List(items) if items.is_empty() => none.to_owned(),
            Self::List(items) => items.join(","),
        }
    }

    /// For programs: bytes as numbers, nothing as an empty text.
    #[must_use]
    pub fn raw(&self) -> String {
        match self {
            Self::Nothing | Self::Limit(None) => String::new(),
            Self::Text(text) => text.clone(),
            Self::Size(bytes) | Self::Limit(Some(bytes)) => bytes.to_string(),
            Self::Count(n) => n.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => items.join(","),
        }
    }

    /// Which comes first: numbers by size, texts by letters, nothing at the end.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        match (self.number(), other.number()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => (*self == Self::Nothing)
                .cmp(&(*other == Self::Nothing))
                .then_with(|| self.raw().cmp(&other.raw())),
        }
    }

    const fn number(&self) -> Option<u64> {
        match self {
            Self::Size(n) | Self::Count(n) | Self::Limit(Some(n)) => Some(*n),
            // No limit is more than any.
            Self::Limit(None) => Some(u64::MAX),
            _ => None,
        }
    }
}

/// The administrator's sizes of the original: two decimals, `500.00MB`, up to terabytes; bytes as `5B`.
#[must_use]
pub fn limit(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TB", 1 << 40),
        ("GB", 1 << 30),
        ("MB", 1 << 20),
        ("KB", 1 << 10),
    ];
    for (unit, size) in UNITS {
        if bytes >= size {
            let hundredths = u128::from(bytes % size) * 100 / u128::from(size);
            return format!("{}.{hundredths:02}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// One per column.
    pub cells: Vec<Cell>,
    /// Somebody should look at it.
    pub marked: bool,
}

/// Columns and rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// All there are.
    pub columns: &'static [Column],
    /// As many cells each as there are columns.
    pub rows: Vec<Row>,
}

impl Grid {
    /// Rows without marks.
    #[must_use]
    pub fn new(columns: &'static [Column], rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        let plain = |cells| Row {
            cells,
            marked: false,
        };
        Self {
            columns,
            rows: rows.into_iter().map(plain).collect(),
        }
    }

    /// The number of the column with this key.
    #[must_use]
    pub fn column(&self, key: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|c| c.key.eq_ignore_ascii_case(key))
    }

    /// The keys, for messages.
    #[must_use]
    pub fn keys(&self) -> String {
        let keys: Vec<_> = self.columns.iter().map(|c| c.key).collect();
        keys.join(", ")
    }
}

impl Row {
    /// A cell of this row.
    #[must_use]
    pub fn cell(&self, column: usize) -> &Cell {
        self.cells.get(column).unwrap_or(&Cell::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_look_as_they_did() {
        for (bytes, shown) in [
            (5, "5B"),
            (500 << 20, "500.00MB"),
            (1 << 30, "1.00GB"),
            (3 << 29, "1.50GB"),
            (u64::MAX, "16777215.99TB"),
        ] {
            assert_eq!(limit(bytes), shown);
        }
        assert_eq!(Cell::Limit(None).shown("-"), "Unset");
    }

    #[test]
    fn sizes_are_ordered_as_numbers_and_nothing_comes_last() {
        let mut cells = [
            Cell::Limit(None),
            Cell::Size(5 << 30),
            Cell::Size(600 << 20),
        ];
        cells.sort_by(Cell::order);
        assert_eq!(cells.first(), Some(&Cell::Size(600 << 20)));
        assert_eq!(cells.last(), Some(&Cell::Limit(None)));
        let mut cells = [Cell::Nothing, Cell::text("b"), Cell::text("a")];
        cells.sort_by(Cell::order);
        assert_eq!(cells.last(), Some(&Cell::Nothing));
    }
}
