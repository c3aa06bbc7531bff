//! Mends what dead processes left half-done in IPAM.
//!
//! Every write of IPAM leaves rows on the safe side, so a process that dies in the middle loses no address and gives none
//! out twice; at worst one stays assigned to nobody. Each node looks for such rows soon after its start and now and then
//! later, and mends those that have not changed for [`ipam::GRACE_SECS`]. Any number of nodes may do so at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use datastore::Store;
use ipam::{GRACE_SECS, Ipam, IpamError};

/// Between one look and the next; spread, so that nodes started together do not look together.
const PERIOD: Duration = Duration::from_secs(600);
const SPREAD_SECS: u64 = 300;

/// Starts the thread, which runs until the process ends.
///
/// # Errors
/// No thread.
pub(crate) fn start(store: Arc<dyn Store>) -> io::Result<()> {
    let ipam = Ipam::new(store);
    let work = move || {
        loop {
            match look_and_mend(&ipam) {
                Ok(0) => {}
                Ok(mended) => tracing::info!(mended, "mended IPAM rows that a dead process left half-done"),
                Err(error) => {
                    tracing::warn!(%error, "cannot look for half-done IPAM rows; tried again later")
                }
            }
            std::thread::sleep(PERIOD + Duration::from_secs(fastrand::u64(0..SPREAD_SECS)));
        }
    };
    std::thread::Builder::new().name("ipam-recovery".to_owned()).spawn(work).map(drop)
}

fn look_and_mend(ipam: &Ipam) -> Result<usize, IpamError> {
    let suspects = ipam.leaks()?;
    std::thread::sleep(Duration::from_secs(GRACE_SECS));
    ipam.recover(&suspects)
}
