//! Statistics Reports: only what is really counted.

use ipnet::{Ipv4Net, Ipv6Net};

use super::feed::Feed;
use super::headers::Scene;
use crate::observe::bmp::{Message, Statistic, Value, statistic};
use crate::rib::{Net, PeerNumber};
use crate::speaker::family::FamilyRib;
use crate::speaker::peer::Peer;
use crate::types::Family;

impl Feed {
    /// Appends a report for each peer that is up.
    pub(super) fn statistics(
        &self,
        scene: &Scene<'_>,
        ipv4: &FamilyRib<Ipv4Net>,
        ipv6: &FamilyRib<Ipv6Net>,
        out: &mut Vec<u8>,
    ) {
        for number in self.known() {
            let (Some(header), Some(peer)) = (scene.header(number, false), scene.peers.get(&number)) else {
                continue;
            };
            let mut list = counters(peer);
            let of_families = [
                (Family::Ipv4Unicast, adj_rib_in(ipv4, number, peer)),
                (Family::Ipv6Unicast, adj_rib_in(ipv6, number, peer)),
            ];
            if let [(_, Some(v4)), (_, Some(v6))] = of_families {
                list.push(Statistic { kind: statistic::ADJ_RIB_IN, value: Value::Gauge(v4 + v6) });
            }
            let agreed = peer.agreed.as_ref().map(|agreed| agreed.context.families).unwrap_or_default();
            for (family, routes) in of_families.into_iter().filter(|(family, _)| agreed.contains(*family)) {
                let value = routes.map(|routes| Value::OfFamily(family.into(), routes));
                list.extend(value.map(|value| Statistic { kind: statistic::ADJ_RIB_IN_OF_FAMILY, value }));
            }
            Message::Statistics(header, list).encode(out);
        }
    }
}

fn counters(peer: &Peer) -> Vec<Statistic> {
    let unused = &peer.unused;
    let counted = [
        (statistic::REJECTED, unused.rejected),
        (statistic::CLUSTER_LIST_LOOPS, unused.cluster_loops),
        (statistic::AS_PATH_LOOPS, unused.as_path_loops),
        (statistic::ORIGINATOR_LOOPS, unused.originator_loops),
        (statistic::UPDATES_TREATED_AS_WITHDRAW, unused.treated_as_withdraw),
    ];
    // Counters have 32 bits, and wrap.
    let counter = |number: u64| Value::Counter((number & u64::from(u32::MAX)) as u32);
    counted.into_iter().map(|(kind, number)| Statistic { kind, value: counter(number) }).collect()
}

/// How many routes a peer has said. Known where nothing is turned away, or what is, is kept.
fn adj_rib_in<N: Net>(family: &FamilyRib<N>, number: PeerNumber, peer: &Peer) -> Option<u64> {
    let kept = family.rib.count(number).routes;
    let rejected = match &family.originals {
        Some(originals) => originals.rejected(number),
        None if peer.may_reject() => return None,
        None => 0,
    };
    Some((kept + rejected) as u64)
}
