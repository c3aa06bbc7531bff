//! What the demo prints.

use std::fs;
use std::time::Instant;

use crate::state::LabDir;

/// Lines of a log that are shown when the demo fails.
const LOG_LINES: usize = 15;

/// Numbers the steps and knows the time.
pub(crate) struct Report {
    start: Instant,
    proofs: usize,
}

impl Report {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), proofs: 0 }
    }

    /// A step that went as it should: what was done, and what was seen.
    pub(crate) fn done(&mut self, did: &str, saw: &str) {
        self.proofs += 1;
        println!("[{:5.1} s] {did}: {saw}", self.start.elapsed().as_secs_f64());
    }

    /// Output of a command or a table of the kernel, as it is.
    pub(crate) fn show(&self, heading: &str, text: &str) {
        println!("          $ {heading}");
        for line in text.lines() {
            println!("          {line}");
        }
    }

    pub(crate) fn summary(&self) {
        println!(
            "All {} steps as they should be, in {:.1} s.",
            self.proofs,
            self.start.elapsed().as_secs_f64()
        );
    }

    /// The ends of the nodes' logs, for whoever has to find out why.
    pub(crate) fn logs(&self, lab: &LabDir) {
        let Ok(state) = lab.load() else { return };
        for host in &state.topology.hosts {
            let text = fs::read_to_string(lab.node_log(&host.name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            eprintln!("--- the end of {}'s log", host.name);
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}
