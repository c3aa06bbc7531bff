//! Checks that crates depend on each other only along the arrows that ARCHITECTURE.md draws.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::metadata;

/// Who may name whom. `api` and `kernel` may also be named by whoever reaches them already.
const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("bgp", &[]),
    ("kernel", &[]),
    // The plan for BGP is the speaker's configuration, and both are pure: so node, reflector and `calicoctl bgp plan` read
    // a datastore the same way.
    ("calc", &["api", "bgp"]),
    ("datastore", &["api"]),
    ("ipam", &["api", "datastore"]),
    ("dataplane", &["api", "calc", "kernel"]),
    ("node", &["api", "bgp", "calc", "dataplane", "datastore", "ipam", "kernel"]),
    ("client", &["api"]),
    ("cni", &["api", "client", "kernel"]),
    ("ctl", &["api", "bgp", "calc", "client", "datastore", "ipam"]),
    ("lab", &["api", "client", "datastore", "kernel"]),
    ("tortie", &["cni", "ctl", "lab", "node"]),
    ("benches", &["api", "client", "datastore", "kernel", "testkit"]),
    ("fuzz-targets", &["bgp"]),
    ("testkit", &["api"]),
    ("xtask", &[]),
];

/// Crates whose code must stay free of I/O and of async runtimes.
const PURE: &[&str] = &["api", "bgp", "calc"];

/// Dependencies that a pure crate may never have.
const IMPURE: &[&str] = &["kernel", "tokio", "axum", "rusqlite", "rustix", "socket2", "libc", "netlink-sys"];

/// Compares every manifest of the workspace with the table above.
pub(crate) fn check() -> Result<String> {
    let metadata = metadata::load()?;
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let members: Vec<_> =
        metadata::packages(&metadata).filter(|package| package["source"].is_null()).collect();
    let names: Vec<_> = members.iter().map(|package| metadata::text(package, "name")).collect();
    let mut problems = Vec::new();
    for (package, name) in members.iter().zip(&names) {
        let Some(targets) = allowed.get(name) else {
            problems.push(format!("{name}: not in the table of layers (xtask/src/layers.rs)"));
            continue;
        };
        for dependency in normal_dependencies(package) {
            if names.contains(&dependency) && !targets.contains(&dependency) {
                problems.push(format!("{name} must not depend on {dependency}"));
            }
            if PURE.contains(name) && IMPURE.contains(&dependency) {
                problems.push(format!("{name} is pure and must not depend on {dependency}"));
            }
        }
    }
    if problems.is_empty() {
        return Ok(format!("layers: {} crates, every edge allowed", names.len()));
    }
    bail!("layers:\n  {}", problems.join("\n  "))
}

/// Names of the dependencies that end up in the crate itself; tests may use more (`testkit`).
fn normal_dependencies(package: &serde_json::Value) -> impl Iterator<Item = &str> {
    package["dependencies"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| metadata::text(dependency, "name"))
}
