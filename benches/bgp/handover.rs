//! A process takes the place of another one, under way.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::TestNamespace;

use super::fleet::Fleet;
use super::measure::{Figures, Run};
use super::table::Table;

/// Between single blocks.
const PAUSE: Duration = Duration::from_millis(1);
/// After the old process has ended.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// Longer than the hold time: a session of which one end has given up is down by then.
const HOLD: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Single blocks from one client to another while a process takes over; then all sessions have to live on.
    pub(super) fn hand_over(
        &mut self,
        namespace: &TestNamespace,
        fleet: &mut Fleet,
        figures: &mut Figures,
    ) -> Result<()> {
        self.fill(fleet, figures)?;
        let (start, before) = (Instant::now(), fleet.received());
        let mut old = self.speaker.succeed(namespace)?;
        let (from, to) = (1, self.scenario.hearers().end - 1);
        let address = self.scenario.neighbours[from].address;
        let (mut told, mut ended) = (0, None);
        while ended.is_none_or(|ended: Instant| ended.elapsed() < AFTERWARDS) {
            let one = Table::blocks(told..told + 1, address);
            figures.change.push(self.tell_all(fleet, from, &one, to..to + 1)?);
            told += 1;
            if ended.is_none() && old.try_wait()?.is_some() {
                ended = Some(Instant::now());
                figures.gone.push(start.elapsed());
            }
            ensure!(start.elapsed() < self.bounds.limit, "nobody takes over: {}", self.speaker.said());
            fleet.carry_on(PAUSE)?;
        }
        fleet.carry_on(HOLD)?;
        // All but the first two have heard of each block, and so has the last; the table is nobody's news.
        let (clients, table) = (self.scenario.neighbours.len() - 2, self.scenario.heard);
        let heard = |number| fleet.count(number) == table + told as usize;
        ensure!((from + 1..=to).all(heard), "not everybody has everything");
        figures.updates = (fleet.received() - before).saturating_sub(u64::from(told) * (clients as u64 + 1));
        figures.memory = figures.memory.max(self.speaker.peak_memory()?);
        Ok(())
    }
}
