//! What is wanted, as `nft list table` writes it: for people, for `explain`, and for tests of whoever fills the table.

use std::fmt;

use super::encode::SetSchema;
use super::family::TableId;
use super::plan::{Wanted, WantedChain};
use super::set::{Element, SetKind};
use super::statement::Verdict;
use super::text::write_member;
use super::tracker::SetTracker;

/// The text of a table; sets and chains by name.
pub(crate) struct Listing<'a> {
    pub(crate) id: &'a TableId,
    pub(crate) wanted: &'a Wanted,
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {{", self.id)?;
        let mut separator = "";
        for (name, set) in &self.wanted.sets {
            f.write_str(separator)?;
            write_set(f, name, set)?;
            separator = "\n";
        }
        for (name, chain) in &self.wanted.chains {
            f.write_str(separator)?;
            write_chain(f, name, chain)?;
            separator = "\n";
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, name: &str, set: &SetTracker) -> fmt::Result {
    let SetSchema { kind, map } = &set.schema;
    let (what, to) = if *map { ("map", " : verdict") } else { ("set", "") };
    writeln!(f, "\t{what} {name} {{\n\t\t{kind}{to}")?;
    if kind.intervals {
        writeln!(f, "\t\tflags interval")?;
    }
    let mut separator = "\t\telements = { ";
    for (element, verdict) in set.effective() {
        f.write_str(separator)?;
        write_element(f, kind, element, verdict)?;
        separator = ", ";
    }
    if separator == ", " {
        writeln!(f, " }}")?;
    }
    writeln!(f, "\t}}")
}

fn write_element(
    f: &mut fmt::Formatter<'_>,
    kind: &SetKind,
    element: &Element,
    verdict: Option<&Verdict>,
) -> fmt::Result {
    match kind.member(element) {
        Some(member) => write_member(f, kind, &member)?,
        None => write!(f, "{element:?}")?,
    }
    verdict.map_or(Ok(()), |verdict| write!(f, " : {verdict}"))
}

fn write_chain(f: &mut fmt::Formatter<'_>, name: &str, chain: &WantedChain) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let Some(base) = &chain.base {
        writeln!(f, "\t\t{base}")?;
    }
    chain.rules.iter().try_for_each(|rule| writeln!(f, "\t\t{}", rule.rule))?;
    writeln!(f, "\t}}")
}
