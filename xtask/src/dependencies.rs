//! Checks licences and banned crates of the whole dependency tree against `deny.toml`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use toml::Table;

use crate::metadata;

/// Compares the locked tree with the policy.
pub(crate) fn check() -> Result<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../deny.toml");
    let policy: Table = fs::read_to_string(root).context("deny.toml")?.parse().context("deny.toml")?;
    let allowed: BTreeSet<_> = policy["licenses"]["allow"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str())
        .collect();
    let banned = policy["bans"]["deny"].as_array().cloned().unwrap_or_default();
    let metadata = metadata::load()?;
    let mut problems = Vec::new();
    let mut count = 0;
    for package in metadata::packages(&metadata) {
        count += 1;
        let (name, license) = (metadata::text(package, "name"), metadata::text(package, "license"));
        if !license_allowed(license, &allowed) {
            problems.push(format!("{name}: licence {license:?} is not in deny.toml's list"));
        }
        for ban in banned.iter().filter(|ban| ban["crate"].as_str() == Some(name)) {
            problems
                .push(format!("{name} is banned: {}", ban["reason"].as_str().unwrap_or("no reason given")));
        }
    }
    if problems.is_empty() {
        return Ok(format!("dependencies: {count} crates, licences and bans as deny.toml says"));
    }
    bail!("dependencies:\n  {}", problems.join("\n  "))
}

/// Whether an SPDX expression can be satisfied by the allowed licences: some `OR` branch has all its `AND` terms allowed.
/// Parentheses are only ever written around `OR` groups in practice, so each `AND` term may itself be such a group.
fn license_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    split_top_level(&expression, " AND ").iter().all(|term| {
        let term = term.trim();
        match term.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
            Some(inner) => license_allowed(inner, allowed),
            None => split_top_level(term, " OR ").iter().any(|choice| {
                let choice = choice.trim();
                match choice.contains(['(', ' ']) {
                    true if choice != term => license_allowed(choice, allowed),
                    true => choice.split(" WITH ").next().is_some_and(|base| allowed.contains(base)),
                    false => allowed.contains(choice),
                }
            }),
        }
    })
}

/// Splits at a separator where no parenthesis is open.
fn split_top_level<'a>(expression: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (index, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && index >= start && expression[index..].starts_with(separator) => {
                parts.push(&expression[start..index]);
                start = index + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
        for fine in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(license_allowed(fine, &allowed), "{fine}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-2.0"] {
            assert!(!license_allowed(bad, &allowed), "{bad}");
        }
    }
}
