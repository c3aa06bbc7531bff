//! What the demo prints.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::Instant;

use crate::output::print;
use crate::state::LabDir;

/// Lines of a log that are shown when the demo fails.
const LOG_LINES: usize = 15;

/// Counts the steps and knows the time. Clones count together.
#[derive(Clone)]
pub(crate) struct Report {
    start: Instant,
    steps: Rc<Cell<usize>>,
}

impl Report {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), steps: Rc::default() }
    }

    /// Something that the user should know.
    pub(crate) fn say(&self, text: &str) {
        print(&format!("{text}\n"));
    }

    /// A step that went as it should: what was done, and what was seen.
    pub(crate) fn done(&self, did: &str, saw: &str) {
        self.steps.set(self.steps.get() + 1);
        print(&format!("[{:5.1} s] {did}: {saw}\n", self.start.elapsed().as_secs_f64()));
    }

    /// Output of a command or a table of the kernel, as it is.
    pub(crate) fn show(&self, heading: &str, text: &str) {
        let lines: String = text.lines().map(|line| format!("          {line}\n")).collect();
        print(&format!("          {heading}\n{lines}"));
    }

    pub(crate) fn summary(&self) {
        print(&format!(
            "All {} steps as they should be, in {:.1} s.\n",
            self.steps.get(),
            self.start.elapsed().as_secs_f64()
        ));
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
