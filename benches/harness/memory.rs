//! What the kernel says of a process' memory.

use std::fs;

use anyhow::{Context, Result};

/// A figure of `/proc/PROCESS/FILE`, in KiB.
pub(crate) fn kib(process: u32, file: &str, field: &str) -> Result<u64> {
    let path = format!("/proc/{process}/{file}");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok());
    number.with_context(|| format!("{path} has no {field}"))
}
