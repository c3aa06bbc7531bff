//! That nothing is left: what there was before the demo, and what there is after it.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use kernel::Rtnetlink;

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

/// Held while the user may interrupt the demo; when it is dropped, the watch for signals ends.
pub(crate) struct Interrupt(
    #[expect(dead_code, reason = "the other end sees it go")] tokio::sync::oneshot::Sender<()>,
);

/// Watches for SIGINT and SIGTERM, and then takes the lab down, until the answer is dropped.
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
