//! What cargo says of the workspace and its dependencies.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The output of `cargo metadata` for the locked dependency tree on Linux.
pub(crate) fn load() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cargo metadata printed something that is not JSON")
}

/// The packages of the answer: of the workspace when `source` is absent, else of a registry.
pub(crate) fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

/// A string field of a package; empty when absent.
pub(crate) fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}
