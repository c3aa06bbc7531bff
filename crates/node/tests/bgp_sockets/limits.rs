//! Prefix limits over real sockets; why a session is down, at both ends.

use std::time::Duration;

use bgp::PeerConfig;
use bgp::config::PrefixLimit;

use crate::world::{config, eventually, is_up, originate, pair, passive, peer, reason, start, status};

#[test]
fn a_peer_with_too_many_prefixes_is_closed_told_why_and_taken_again() {
    let [one, other] = pair();
    let limit = PrefixLimit { max: 10, warn_percent: 80, restart: Some(Duration::from_secs(2)) };
    let limited = PeerConfig { prefix_limit: Some(limit), ..passive([10, 0, 0, 2]) };
    let ours = start(&one, config(1, limited));
    let mut many = config(2, peer([10, 0, 0, 1]));
    originate(&mut many, 20);
    let theirs = start(&other, many);
    eventually("the peer is closed", || reason(&ours).starts_with("prefix limit: more than 10"));
    eventually("the peer knows why", || reason(&theirs).contains("maximum number of prefixes reached"));
    let mut few = config(2, peer([10, 0, 0, 1]));
    originate(&mut few, 5);
    theirs.configure(few);
    eventually("with fewer it is taken again", || {
        is_up(&ours) && is_up(&theirs) && status(&ours).is_some_and(|peer| peer.received[0].1 == 5)
    });
}

#[test]
fn why_a_session_is_down_is_said_in_words() {
    let [one, other] = pair();
    let ours = start(&one, config(1, peer([10, 0, 0, 2])));
    eventually("nobody listens", || reason(&ours) == "connect: connection refused");
    let mut wrong = config(2, passive([10, 0, 0, 1]));
    wrong.peers.values_mut().for_each(|peer| peer.remote_as = bgp::Asn(65001));
    let theirs = start(&other, wrong);
    eventually("the AS is wrong there", || {
        reason(&theirs) == "wrong AS: peer is in AS 64512, but AS 65001 is configured"
    });
    eventually("and we are told", || reason(&ours).contains("peer closed: OPEN message error, bad peer AS"));
    ours.configure(config(1, peer([10, 0, 0, 3])));
    eventually("nobody is there", || {
        ["connect: timed out", "connect: no route to the peer"].contains(&reason(&ours).as_str())
    });
}
