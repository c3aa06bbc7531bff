//! Processor time, from `/proc` (proc(5)). What `/proc/PID/stat` says goes in steps of a hundredth of a second, so it is for
//! sums over many operations only.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Linux counts in these for every architecture, whatever the kernel's own clock is (USER_HZ).
const TICKS_PER_SECOND: u32 = 100;

/// Of a process: to the nanosecond while it has all its threads still, in ticks once some have ended that have done much.
pub(crate) fn of_process(process: u32) -> Result<Duration> {
    Ok(of_threads(process)?.max(ticks(process, [14, 15])?))
}

/// Of the threads that a process has now, to the nanosecond (`schedstat`).
fn of_threads(process: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = thread?.path().join("schedstat");
        // One that has just ended is none.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
        total +=
            Duration::from_nanos(nanoseconds.with_context(|| format!("{} has no time", path.display()))?);
    }
    Ok(total)
}

/// Of the children of a process that it has waited for, and theirs.
pub(crate) fn of_children(process: u32) -> Result<Duration> {
    ticks(process, [16, 17])
}

/// The sum of two fields, numbered as in proc(5).
fn ticks(process: u32, fields: [usize; 2]) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the name in parentheses, which may contain anything.
    let after_name = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
    let after_name = after_name.with_context(|| format!("{path} has no name"))?;
    let mut total = 0;
    for field in fields {
        let number = after_name.get(field - 3).and_then(|word| word.parse::<u32>().ok());
        total += number.with_context(|| format!("{path} has no field {field}"))?;
    }
    Ok(Duration::from_secs(1) * total / TICKS_PER_SECOND)
}
