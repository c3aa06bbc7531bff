//! What BGP's plan would be, if: asked of the thread that keeps the planner, on a copy of it.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use calc::bgp_plan::{BgpPlan, BgpPlanner};
use datastore::Update;

/// How long the thread may be busy with something else.
const LIMIT: Duration = Duration::from_secs(5);

/// A question.
#[derive(Debug)]
pub(crate) struct Imagined {
    rows: Vec<Update>,
    answer: SyncSender<BgpPlan>,
}

impl Imagined {
    /// Answers it; the planner stays as it is.
    pub(crate) fn answer(self, planner: &BgpPlanner) {
        let mut copy = planner.clone();
        self.rows.into_iter().for_each(|Update { key, row }| copy.on_update(&key, row));
        // Whoever asked may have lost patience.
        let _ = self.answer.send(copy.plan());
    }
}

/// Asks, and waits for the answer.
pub(crate) fn ask(rows: Vec<Update>, send: impl FnOnce(Imagined)) -> Option<BgpPlan> {
    let (answer, answered) = sync_channel(1);
    send(Imagined { rows, answer });
    answered.recv_timeout(LIMIT).ok()
}
