//! Flows: which packets the kernel denies and allows, with the rules that decide ([`kernel::nflog`], [`dataplane::judge`]), for
//! `calicoctl flows`, `calicoctl policy plan` and the counts of staged policies.
//!
//! # A thread of its own
//! It listens to the two groups, remembers flows ([`table`]), asks the agent which rules have decided, and writes to those who
//! follow ([`followers`]). It writes nothing to the kernel and the agent never waits for it, so nothing depends on it.
//!
//! # What it may cost
//! [`PER_SECOND`] packets of each group are heard in a second ([`budget`]); then the group is left until the second is over, and
//! the kernel copies nothing more for us. How many denied packets that hid, the rules' counters tell.

mod budget;
mod followers;
mod listener;
mod table;
mod thread;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use api::wire::flows::FlowsQuestion;
use kernel::netlink::Errno;
use rustix::event::{EventfdFlags, eventfd};

use crate::agent::AgentHandle;
pub(crate) use thread::Said;
use thread::{Asked, Watcher};

/// Packets of a group that are heard in a second.
pub(crate) const PER_SECOND: usize = 2000;

/// What other threads have of it.
#[derive(Debug, Clone)]
pub(crate) struct Flows {
    questions: Sender<Asked>,
    wake: Arc<OwnedFd>,
}

impl Flows {
    /// Starts the thread in the calling thread's network namespace. It ends with the process.
    pub(crate) fn start(node: &str, agent: AgentHandle) -> std::io::Result<Self> {
        let (questions, asked) = channel();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let watcher = Watcher::new(node, agent, asked, wake.clone());
        std::thread::Builder::new().name("flows".to_owned()).spawn(move || watcher.run())?;
        Ok(Self { questions, wake })
    }

    /// Has a question answered on this connection, however long that takes.
    pub(crate) fn answer(&self, question: FlowsQuestion, stream: UnixStream) {
        if self.questions.send(Asked { question, stream }).is_ok() {
            // Full means that it will wake up anyway.
            let _: Result<_, Errno> = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        }
    }
}
