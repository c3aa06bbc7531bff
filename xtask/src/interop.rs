//! The tables of `docs/bgp-interop.md`, from what the tests of `crates/tortie/tests/interop` found in their last run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::metadata;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bgp-interop.md");

/// A table of cells: rows of features, columns of peers.
#[derive(Default)]
struct Table {
    features: BTreeMap<u64, String>,
    /// With their versions.
    peers: BTreeMap<u64, String>,
    /// Empty: it works; otherwise why the peer cannot do it.
    cells: BTreeMap<(u64, u64), String>,
}

/// Writes the tables into the document, or says whether those in it are the same.
pub(crate) fn run(only_check: bool) -> Result<String> {
    let text = fs::read_to_string(DOCUMENT).context("docs/bgp-interop.md")?;
    let mut updated = text.clone();
    let tables = read()?;
    for (name, table) in &tables {
        updated = replace(&updated, name, &table.render()?)?;
    }
    let known: BTreeSet<&str> = tables.keys().map(String::as_str).collect();
    let marked = text.lines().filter_map(|line| line.strip_prefix("<!-- table ")?.strip_suffix(" -->"));
    if let Some(missing) = marked.into_iter().find(|name| !known.contains(name)) {
        bail!("nothing was found for table {missing}: run the tests of crates/tortie/tests/interop first");
    }
    if only_check {
        ensure!(
            updated == text,
            "docs/bgp-interop.md is not what the tests found: run cargo run -p xtask -- interop"
        );
        return Ok("interop: docs/bgp-interop.md is what the tests found".to_owned());
    }
    fs::write(DOCUMENT, updated).context("docs/bgp-interop.md")?;
    Ok("interop: docs/bgp-interop.md is written".to_owned())
}

fn read() -> Result<BTreeMap<String, Table>> {
    let metadata = metadata::load()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata has no target_directory")?;
    let folder = PathBuf::from(target).join("tmp/interop");
    let files = fs::read_dir(&folder).with_context(|| {
        format!("{}: run the tests of crates/tortie/tests/interop first", folder.display())
    })?;
    let mut tables = BTreeMap::<String, Table>::new();
    for file in files {
        let path = file?.path();
        let cell: Value =
            serde_json::from_str(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
        let text = |field: &str| cell[field].as_str().unwrap_or_default().to_owned();
        let place = (cell["row"].as_u64().context("row")?, cell["column"].as_u64().context("column")?);
        let table = tables.entry(text("table")).or_default();
        table.features.insert(place.0, text("feature"));
        table.peers.insert(place.1, format!("{} {}", text("peer"), text("version")));
        table.cells.insert(place, text("refusal"));
    }
    Ok(tables)
}

impl Table {
    /// Every reason once, as a numbered note below.
    fn render(&self) -> Result<String> {
        let mut notes: Vec<&str> = Vec::new();
        let mut rows = vec![line(std::iter::once("").chain(self.peers.values().map(String::as_str)))];
        rows.push("|---".repeat(self.peers.len() + 1) + "|");
        for (row, feature) in &self.features {
            let mut cells = vec![feature.clone()];
            for (column, peer) in &self.peers {
                let Some(refusal) = self.cells.get(&(*row, *column)) else {
                    bail!("{feature} with {peer}: the test has not passed, or not been run");
                };
                cells.push(cell(refusal, &mut notes));
            }
            rows.push(line(cells.iter().map(String::as_str)));
        }
        let notes = notes.iter().enumerate().map(|(index, note)| format!("{}. {note}", index + 1));
        Ok(rows
            .into_iter()
            .chain((!self.is_clean()).then(String::new))
            .chain(notes)
            .collect::<Vec<_>>()
            .join("\n"))
    }

    fn is_clean(&self) -> bool {
        self.cells.values().all(String::is_empty)
    }
}

fn cell<'a>(refusal: &'a str, notes: &mut Vec<&'a str>) -> String {
    if refusal.is_empty() {
        return "yes".to_owned();
    }
    let number = notes.iter().position(|note| *note == refusal).unwrap_or_else(|| {
        notes.push(refusal);
        notes.len() - 1
    });
    format!("not by the peer ({})", number + 1)
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cells: Vec<&str> = cells.collect();
    format!("| {} |", cells.join(" | "))
}

/// Puts a table between its marks.
fn replace(document: &str, name: &str, table: &str) -> Result<String> {
    let (start, end) = (format!("<!-- table {name} -->\n"), "<!-- end -->");
    let (before, rest) = document.split_once(&start).with_context(|| format!("no mark for table {name}"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("table {name} has no end mark"))?;
    Ok(format!("{before}{start}{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_note_once_and_a_missing_cell_is_named() {
        let mut table = Table::default();
        table.features.extend([(0, "iBGP".to_owned()), (1, "BFD".to_owned())]);
        table.peers.extend([(0, "A 1".to_owned()), (1, "B 2".to_owned())]);
        table.cells.extend([((0, 0), String::new()), ((0, 1), String::new()), ((1, 0), "no BFD".to_owned())]);
        assert!(table.render().unwrap_err().to_string().starts_with("BFD with B 2"));
        table.cells.insert((1, 1), "no BFD".to_owned());
        let expected = "|  | A 1 | B 2 |\n|---|---|---|\n| iBGP | yes | yes |\n\
                        | BFD | not by the peer (1) | not by the peer (1) |\n\n1. no BFD";
        assert_eq!(table.render().unwrap(), expected);
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let document = "a\n<!-- table t -->\nold\n<!-- end -->\nb\n";
        assert_eq!(replace(document, "t", "new").unwrap(), "a\n<!-- table t -->\nnew\n<!-- end -->\nb\n");
        assert!(replace(document, "u", "new").is_err());
    }
}
