//! Filters and sorting of any list, by the columns of its grid.

use std::cmp::Ordering;

use vdvs_domain::ErrorKind;

use crate::failure::Failure;
use crate::glob::fits;
use crate::grid::{Cell, Grid};

/// Which rows, and in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrangement {
    /// Column and pattern; all must fit.
    pub filters: Vec<(String, String)>,
    /// Columns; one that begins with `-` sorts downwards.
    pub sort: Vec<String>,
}

impl Arrangement {
    /// Reads `key=glob` and the sort's columns as they stand on the command line.
    ///
    /// # Errors
    /// [`Failure`]: a filter without `=`.
    pub fn parse(filters: &[String], sort: &[String]) -> Result<Self, Failure> {
        let filters = filters.iter().map(|filter| {
            let (key, pattern) = filter.split_once('=').ok_or_else(|| {
                wrong(format!(
                    "--filter {filter}: write it as column=pattern, for example --filter datastore=vsan*"
                ))
            })?;
            Ok((key.trim().to_owned(), pattern.to_owned()))
        });
        Ok(Self {
            filters: filters.collect::<Result<_, Failure>>()?,
            sort: sort.to_vec(),
        })
    }

    /// The items whose rows fit, in order. `grid` holds one row per item.
    ///
    /// # Errors
    /// [`Failure`]: an unknown column, with those there are.
    pub fn apply<T>(&self, items: Vec<T>, grid: &Grid) -> Result<Vec<T>, Failure> {
        let filters = self
            .filters
            .iter()
            .map(|(key, pattern)| Ok((column(grid, key)?, pattern)))
            .collect::<Result<Vec<_>, Failure>>()?;
        let sort = self
            .sort
            .iter()
            .map(|key| match key.strip_prefix('-') {
                Some(key) => Ok((column(grid, key)?, true)),
                None => Ok((column(grid, key)?, false)),
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let mut kept: Vec<_> = items
            .into_iter()
            .zip(&grid.rows)
            .filter(|(_, row)| {
                let all = |(at, pattern): &(usize, &String)| cell_fits(pattern, row.cell(*at));
                filters.iter().all(all)
            })
            .collect();
        kept.sort_by(|(_, a), (_, b)| {
            let by = |(at, down): &(usize, bool)| {
                let order = a.cell(*at).order(b.cell(*at));
                if *down { order.reverse() } else { order }
            };
            sort.iter()
                .map(by)
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        });
        Ok(kept.into_iter().map(|(item, _)| item).collect())
    }
}

/// The pattern may fit what people see or what programs see; of a list, any item.
fn cell_fits(pattern: &str, cell: &Cell) -> bool {
    match cell {
        Cell::List(items) if !items.is_empty() => items.iter().any(|item| fits(pattern, item)),
        Cell::Flag(flag) => {
            let words = if *flag {
                ["true", "yes"]
            } else {
                ["false", "no"]
            };
            words.iter().any(|w| fits(&pattern.to_lowercase(), w))
        }
        cell => fits(pattern, &cell.raw()) || fits(pattern, &cell.shown("")),
    }
}

fn column(grid: &Grid, key: &str) -> Result<usize, Failure> {
    grid.column(key).ok_or_else(|| {
        wrong(format!(
            "there is no column {key}; there are: {}",
            grid.keys()
        ))
    })
}

fn wrong(text: String) -> Failure {
    Failure::new(ErrorKind::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Column, number, text};

    const COLUMNS: &[Column] = &[
        text("name", "Name"),
        number("size", "Size"),
        text("vms", "VMs"),
        text("protected", "Protected"),
    ];

    fn names(filters: &[&str], sort: &[&str]) -> Result<Vec<&'static str>, Failure> {
        let row = |name: &str, size, vms: &[&str], flag| {
            vec![
                Cell::text(name),
                Cell::Size(size),
                Cell::List(vms.iter().map(|v| (*v).to_owned()).collect()),
                Cell::Flag(flag),
            ]
        };
        let grid = Grid::new(
            COLUMNS,
            [
                row("b", 10 << 20, &["vm1", "vm2"], false),
                row("a", 2 << 30, &[], true),
                row("c", 10 << 20, &["vm2"], false),
            ],
        );
        let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Arrangement::parse(&own(filters), &own(sort))?.apply(vec!["b", "a", "c"], &grid)
    }

    #[test]
    fn all_filters_must_fit_and_the_order_stays() {
        assert_eq!(names(&[], &[]).unwrap(), ["b", "a", "c"]);
        assert_eq!(names(&["vms=vm2"], &[]).unwrap(), ["b", "c"]);
        assert_eq!(names(&["vms=vm2", "name=c"], &[]).unwrap(), ["c"]);
        assert_eq!(names(&["vms="], &[]).unwrap(), ["a"]);
        assert_eq!(names(&["size=2GB"], &[]).unwrap(), ["a"]);
        assert_eq!(names(&["size=10485760"], &[]).unwrap(), ["b", "c"]);
        assert_eq!(names(&["Protected=TRUE"], &[]).unwrap(), ["a"]);
    }

    #[test]
    fn sorting_takes_several_columns_up_and_down() {
        assert_eq!(names(&[], &["size", "-name"]).unwrap(), ["c", "b", "a"]);
        assert_eq!(names(&[], &["-size", "name"]).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn an_unknown_column_is_named_with_those_there_are() {
        for (filters, sort) in [(&["colour=x"][..], &[][..]), (&[][..], &["-colour"][..])] {
            let text = names(filters, sort).unwrap_err().text;
            assert!(text.contains("there is no column colour"), "{text}");
            assert!(text.contains("name, size, vms, protected"), "{text}");
        }
        assert!(
            names(&["nothing"], &[])
                .unwrap_err()
                .text
                .contains("column=pattern")
        );
    }
}
