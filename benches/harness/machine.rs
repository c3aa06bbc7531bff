//! The machine that a figure is from, and whether it was busy.

use std::fs;

/// Load average above which figures are not to be trusted.
const BUSY: f64 = 1.0;

/// Says what the machine is, and warns when other work runs on it.
pub(crate) fn describe() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = rustix::system::uname();
    let load = load_average();
    println!("machine: {cores} cores, Linux {}, load {load:.1}", system.release().to_string_lossy());
    if load > BUSY {
        println!("WARNING: the machine is busy (load {load:.1}); compare ratios, not times");
    }
}

/// The mean number of runnable tasks in the last minute.
fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
