//! Differing rows as an operator reads them: text, capped.

use super::align::{Sides, cell};
use super::verdict::Example;
use crate::wire::column::Column;

/// Cells of one example at most; a differing row seldom needs more to be understood.
const CELLS_MAX: usize = 32;

/// Writes examples of one result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Examples<'a> {
    pub(super) sides: Sides<'a>,
    pub(super) columns: &'a [Column],
    pub(super) cell_bytes: usize,
}

impl Examples<'_> {
    /// The cells in which two rows differ.
    pub(super) fn pair(&self, one: usize, other: usize) -> Example {
        let cells = self.sides.cells(one, other).enumerate();
        let differ: Vec<usize> = cells
            .filter(|(_, cell)| !cell.is_like())
            .map(|(at, _)| at)
            .collect();
        self.example(Some(one), Some(other), &differ)
    }

    /// A row that only the primary has.
    pub(super) fn primary_alone(&self, row: usize) -> Example {
        self.example(Some(row), None, &self.all())
    }

    /// A row that only the shadow has.
    pub(super) fn shadow_alone(&self, row: usize) -> Example {
        self.example(None, Some(row), &self.all())
    }

    fn all(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }

    fn example(&self, one: Option<usize>, other: Option<usize>, columns: &[usize]) -> Example {
        let columns = columns.get(..CELLS_MAX).unwrap_or(columns);
        let print = |rows, row: Option<usize>| match row {
            Some(row) => columns
                .iter()
                .map(|column| self.print(cell(rows, row, *column)))
                .collect(),
            None => Vec::new(),
        };
        Example {
            row: one.map(|row| row as u64),
            columns: columns
                .iter()
                .filter_map(|column| u16::try_from(*column).ok())
                .collect(),
            names: columns
                .iter()
                .filter_map(|column| self.columns.get(*column))
                .map(name)
                .collect(),
            primary: print(self.sides.primary, one),
            shadow: print(self.sides.shadow, other),
        }
    }

    fn print(&self, cell: Option<&[u8]>) -> Option<String> {
        cell.map(|bytes| printed(bytes, self.cell_bytes))
    }
}

/// A table's column has a name to know it by. An expression's name is its own text, and may be a
/// literal's: left out.
fn name(column: &Column) -> String {
    if column.is_a_tables() {
        column.name.clone()
    } else {
        String::new()
    }
}

/// At most `max` bytes of a cell: text where it is text, else hexadecimal as MySQL writes it.
fn printed(bytes: &[u8], max: usize) -> String {
    let (shown, more) = match bytes.get(..max) {
        Some(shown) if shown.len() < bytes.len() => (shown, "…"),
        _ => (bytes, ""),
    };
    let text = match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        // A character that the cap cut through is no reason to call the cell binary.
        Err(error) if error.error_len().is_none() && !more.is_empty() => shown
            .get(..error.valid_up_to())
            .and_then(|valid| std::str::from_utf8(valid).ok()),
        Err(_) => None,
    };
    let readable = |text: &&str| {
        !text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    };
    match text.filter(readable) {
        Some(text) => format!("{text}{more}"),
        None => {
            let half = shown.get(..max / 2).unwrap_or(shown);
            let digits: String = half.iter().map(|byte| format!("{byte:02X}")).collect();
            format!(
                "0x{digits}{}",
                if half.len() < bytes.len() { "…" } else { "" }
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_printed_as_text_where_they_are_text_and_capped() {
        for (bytes, max, printed_as) in [
            (&b"abc"[..], 8, "abc"),
            (b"abcdefghij", 8, "abcdefgh…"),
            ("ééé".as_bytes(), 5, "éé…"),
            (b"\x00\xFF", 8, "0x00FF"),
            (b"\x01\x02\x03\x04\x05\x06", 8, "0x01020304…"),
            (b"", 8, ""),
            (b"a\nb", 8, "a\nb"),
        ] {
            assert_eq!(printed(bytes, max), printed_as);
        }
    }
}
