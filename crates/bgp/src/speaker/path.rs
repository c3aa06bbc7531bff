//! Paths to peers that BFD watches.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Peer, Speaker};
use crate::bfd::Path;
use crate::config::Bfd;
use crate::rib::PeerNumber;
use crate::types::{Family, PeerId};

/// A path that the shell shall have watched; what becomes of it is told with [`Input::Path`](crate::Input::Path).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedPath {
    /// Our address; `None`: the one that the kernel takes towards the peer.
    pub local: Option<IpAddr>,
    /// The peer's address.
    pub remote: IpAddr,
    /// The interface that the peer is reached by, when it is bound to one.
    pub interface: Option<String>,
    /// How it is watched.
    pub bfd: Bfd,
}

/// How the path to a peer is watched, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathStatus {
    /// How it is watched.
    pub bfd: Bfd,
    /// What BFD has said last; `None`: nothing yet.
    pub path: Option<Path>,
}

impl Speaker {
    /// Of a peer whose path is watched.
    pub(super) fn path_status(&self, peer: &Peer) -> Option<PathStatus> {
        peer.config.bfd.map(|bfd| PathStatus { bfd, path: self.paths.get(&peer.id).copied() })
    }

    /// The paths to watch. Changes with a new configuration, and when sessions come and go whose peers were not known
    /// before: those of ranges, and unnumbered ones.
    pub fn watched_paths(&self) -> BTreeMap<PeerId, WatchedPath> {
        self.peers.values().filter_map(|peer| Some((peer.id.clone(), watched(peer)?))).collect()
    }

    /// What BFD says of a path. It may come for a peer that is gone.
    pub(super) fn path(&mut self, id: &PeerId, path: Path) {
        let Some(number) = self.numbers.get(id).copied() else { return };
        let now = self.now;
        let peer = self.peers.get_mut(&number).expect("a number belongs to a peer");
        if peer.config.bfd.is_none() {
            return;
        }
        self.paths.insert(id.clone(), path);
        if let Path::Down { diagnostic, independent } = path {
            peer.session.path_down(diagnostic, now);
            self.act(number);
            // RFC 5882, section 4.3.2: a peer whose packets depend on its routing process may just be restarting that,
            // and its stale routes are good. One whose do not has lost its forwarding.
            if independent {
                self.sweep(number, &Family::ALL);
            }
        }
        self.gate(number);
        self.act(number);
    }

    /// Holds a session back that is to wait for its path, or lets it go.
    pub(super) fn gate(&mut self, number: PeerNumber) {
        let peer = self.peers.get_mut(&number).expect("the caller has it");
        let told = self.paths.get(&peer.id);
        // Whoever is not known by address has no path before the session.
        let strict = peer.config.bfd.is_some_and(|bfd| bfd.strict) && !peer.config.address.is_unspecified();
        let waits = strict && !told.is_some_and(|path| path.lets_begin());
        peer.session.wait_for_path(waits, self.now);
    }

    /// What was said of paths that are not watched any more is of no use.
    pub(super) fn forget_paths(&mut self) {
        let (numbers, peers) = (&self.numbers, &self.peers);
        self.paths.retain(|id, _| numbers.get(id).is_some_and(|number| peers[number].config.bfd.is_some()));
    }
}

fn watched(peer: &Peer) -> Option<WatchedPath> {
    let bfd = peer.config.bfd?;
    let known = Some(peer.config.address).filter(|address| !address.is_unspecified());
    let connected = || {
        let connection = peer.session.established_connection()?;
        peer.endpoints.get(&connection).map(|endpoints| endpoints.remote.ip())
    };
    let remote = known.or_else(connected)?;
    let interface = peer.config.interface.clone();
    Some(WatchedPath { local: peer.config.source, remote, interface, bfd })
}
