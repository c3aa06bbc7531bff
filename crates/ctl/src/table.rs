//! Tables: plain ones as `calicoctl get` prints them, and framed ones as `node status` and `ipam show` do.
//!
//! By hand, since both layouts are fixed by what Calico's users parse: three blanks between plain columns, and frames
//! with centred headings.

use std::fmt::Write as _;

use serde_json::Value;

/// Blanks after the widest cell of a plain column.
const PADDING: usize = 3;

/// Columns without lines, three blanks apart.
pub(crate) fn plain(headings: &[&str], rows: &[Vec<String>]) -> String {
    let widths = widths(headings, rows);
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(line, "{cell:<width$}", width = width + PADDING);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&mut headings.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Columns in a frame: headings centred, numbers to the right, everything else to the left.
pub(crate) fn framed(headings: &[&str], rows: &[Vec<String>]) -> String {
    let widths = widths(headings, rows);
    let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
    let rule = format!("+{rule}+\n");
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let head = headings.iter().zip(&widths).map(|(heading, width)| centred(heading, *width)).collect();
    let mut text = format!("{rule}{}{rule}", line(head));
    for row in rows {
        text += &line(row.iter().zip(&widths).map(|(cell, width)| aligned(cell, *width)).collect());
    }
    text + &rule
}

fn widths(headings: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or_default()
    };
    (0..headings.len()).map(width).collect()
}

fn centred(text: &str, width: usize) -> String {
    let left = (width - text.chars().count()) / 2;
    format!("{:<width$}", format!("{}{text}", " ".repeat(left)))
}

fn aligned(text: &str, width: usize) -> String {
    match text.parse::<f64>() {
        Ok(_) => format!("{text:>width$}"),
        Err(_) => format!("{text:<width$}"),
    }
}

/// A value as a table shows it: lists with commas, maps as `key=value`.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(",")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn plain_columns_are_three_blanks_apart() {
        let text = plain(&["NAME", "CIDR"], &[row(&["a-long-name", "10.0.0.0/16"]), row(&["b", ""])]);
        assert_eq!(text, "NAME          CIDR\na-long-name   10.0.0.0/16\nb\n");
    }

    #[test]
    fn frames_centre_headings_and_align_numbers_to_the_right() {
        let rows = [row(&["10.20.0.12", "node-to-node mesh", "07:41:19", "64"])];
        let expected = "\
+--------------+-------------------+----------+-----+
| PEER ADDRESS |     PEER TYPE     |  SINCE   | IPS |
+--------------+-------------------+----------+-----+
| 10.20.0.12   | node-to-node mesh | 07:41:19 |  64 |
+--------------+-------------------+----------+-----+
";
        assert_eq!(framed(&["PEER ADDRESS", "PEER TYPE", "SINCE", "IPS"], &rows), expected);
    }
}
