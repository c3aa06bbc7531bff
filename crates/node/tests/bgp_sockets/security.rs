//! Signatures (RFC 2385, RFC 5925) and TTL security (RFC 5082).

use bgp::config::{AoAlgorithm, AoKey, Authentication, PeerRange, Secret};
use bgp::{PeerConfig, PeerId};
use testkit::TestNamespace;

use crate::world::{config, eventually, is_up, link, pair, passive, peer, reason, start, status};

const OURS: [u8; 4] = [10, 0, 0, 1];
const THEIRS: [u8; 4] = [10, 0, 0, 2];

fn with_password(peer: PeerConfig, password: &str) -> PeerConfig {
    let secret = Secret::new(password).expect("a password of fair length");
    PeerConfig { authentication: Some(Authentication::Md5(secret)), ..peer }
}

#[test]
fn the_same_password_at_both_ends_lets_the_session_up_whoever_dials() {
    for we_wait in [true, false] {
        let [one, other] = pair();
        let (ours, theirs) =
            if we_wait { (passive(THEIRS), peer(OURS)) } else { (peer(THEIRS), passive(OURS)) };
        let ours = start(&one, config(1, with_password(ours, "rosebud")));
        let theirs = start(&other, config(2, with_password(theirs, "rosebud")));
        eventually("the session is up", || is_up(&ours) && is_up(&theirs));
    }
}

#[test]
fn another_password_or_none_keeps_the_session_down_and_says_why() {
    let variants = [Some("citizen"), None];
    for password in variants {
        let [one, other] = pair();
        let ours = start(&one, config(1, with_password(passive(THEIRS), "rosebud")));
        let their_peer = match password {
            Some(password) => with_password(peer(OURS), password),
            None => peer(OURS),
        };
        let theirs = start(&other, config(2, their_peer.clone()));
        let text = if password.is_some() { "the same at both ends" } else { "timed out" };
        eventually("the one that dials knows why", || reason(&theirs).contains(text));
        eventually("the one that waits suspects it", || {
            reason(&ours).starts_with("waiting for the peer, while")
        });
        assert!(!is_up(&ours) && !is_up(&theirs));
        // Put right while everything runs.
        theirs.configure(config(2, with_password(peer(OURS), "rosebud")));
        eventually("the session is up", || is_up(&ours) && is_up(&theirs));
    }
}

#[test]
fn a_password_that_changes_resets_the_session_and_counts_at_once() {
    let [one, other] = pair();
    let ours = start(&one, config(1, with_password(passive(THEIRS), "rosebud")));
    let theirs = start(&other, config(2, with_password(peer(OURS), "rosebud")));
    eventually("the session is up", || is_up(&ours) && is_up(&theirs));
    ours.configure(config(1, with_password(passive(THEIRS), "citizen")));
    eventually("the session is down", || !is_up(&theirs));
    theirs.configure(config(2, with_password(peer(OURS), "citizen")));
    eventually("the session is up again", || is_up(&ours) && is_up(&theirs));
    ours.configure(config(1, passive(THEIRS)));
    theirs.configure(config(2, peer(OURS)));
    eventually("the session is up without a password", || {
        is_up(&ours) && is_up(&theirs) && status(&theirs).is_some_and(|peer| peer.reason.is_none())
    });
}

#[test]
fn a_range_of_peers_has_a_password_too() {
    let [one, other] = pair();
    let mut ours = config(1, with_password(passive([10, 0, 0, 77]), "another"));
    let template = with_password(passive([0, 0, 0, 0]), "rosebud");
    let prefix = "10.0.0.0/24".parse().expect("a prefix");
    ours.ranges.insert(PeerId::from("clients"), PeerRange { prefix, max_peers: 10, template });
    let ours = start(&one, ours);
    let theirs = start(&other, config(2, with_password(peer(OURS), "citizen")));
    eventually("it is not let in", || reason(&theirs).contains("the same at both ends"));
    assert_eq!(ours.status().len(), 1, "nobody came");
    theirs.configure(config(2, with_password(peer(OURS), "rosebud")));
    eventually("the session is up", || is_up(&theirs));
    assert_eq!(ours.status()[0].id, PeerId::from("clients_10.0.0.2"));
}

#[test]
fn the_authentication_option_works_or_it_is_said_that_the_kernel_has_none() {
    let [one, other] = pair();
    let key = |send_id, receive_id| AoKey {
        send_id,
        receive_id,
        algorithm: AoAlgorithm::HmacSha1,
        key: Secret::new("rosebud").expect("a key of fair length"),
    };
    let with = |peer, key| PeerConfig { authentication: Some(Authentication::Ao(vec![key])), ..peer };
    let ours = start(&one, config(1, with(passive(THEIRS), key(1, 2))));
    let theirs = start(&other, config(2, with(peer(OURS), key(2, 1))));
    eventually("the session is up, or there is no TCP-AO", || {
        is_up(&ours) && is_up(&theirs) || reason(&theirs).contains("this kernel has no TCP-AO")
    });
}

/// Three hosts in a row; the one in the middle forwards: 10.0.0.1, then 10.9.0.2.
fn distant() -> [TestNamespace; 3] {
    let hosts = [TestNamespace::new(), TestNamespace::new(), TestNamespace::new()];
    link(&hosts[0], "10.0.0.1/24", &hosts[1], "10.0.0.254/24", "left");
    link(&hosts[1], "10.9.0.254/24", &hosts[2], "10.9.0.2/24", "right");
    hosts[1].command("sysctl -qw net.ipv4.ip_forward=1");
    hosts[0].command("ip route add 10.9.0.0/24 via 10.0.0.254");
    hosts[2].command("ip route add 10.0.0.0/24 via 10.9.0.254");
    hosts
}

fn within(peer: PeerConfig, hops: u8) -> PeerConfig {
    PeerConfig { ttl_security: Some(hops), ..peer }
}

const DISTANT: [u8; 4] = [10, 9, 0, 2];

#[test]
fn a_peer_within_the_allowed_hops_comes_up() {
    let [one, other] = pair();
    let ours = start(&one, config(1, within(passive(THEIRS), 1)));
    let theirs = start(&other, config(2, within(peer(OURS), 1)));
    eventually("the session on the link is up", || is_up(&ours) && is_up(&theirs));
    let [one, _router, other] = distant();
    let ours = start(&one, config(1, within(passive(DISTANT), 2)));
    let theirs = start(&other, config(2, within(peer(OURS), 2)));
    eventually("the session over a router is up", || is_up(&ours) && is_up(&theirs));
}

#[test]
fn a_peer_further_away_stays_down_and_both_ends_say_why() {
    let [one, _router, other] = distant();
    let ours = start(&one, config(1, within(passive(DISTANT), 1)));
    let theirs = start(&other, config(2, within(peer(OURS), 2)));
    eventually("the one that waits says why", || {
        reason(&ours) == "TTL security: peer dialled with TTL 254, at least 255 is needed"
    });
    assert!(!is_up(&theirs));
    // The one that dials asks for too much.
    ours.configure(config(1, within(passive(DISTANT), 2)));
    theirs.configure(config(2, within(peer(OURS), 1)));
    eventually("the one that dials says why", || {
        reason(&theirs).contains("a lower TTL than TTL security allows")
    });
    assert!(!is_up(&ours) && !is_up(&theirs));
}

#[test]
fn a_peer_that_does_not_send_with_the_highest_ttl_is_not_taken() {
    let [one, other] = pair();
    let ours = start(&one, config(1, within(passive(THEIRS), 1)));
    let theirs = start(&other, config(2, peer(OURS)));
    eventually("it is turned away", || {
        reason(&ours) == "TTL security: peer dialled with TTL 64, at least 255 is needed"
    });
    assert!(!is_up(&theirs));
}

#[test]
fn a_ttl_of_one_keeps_a_session_on_its_link() {
    let [one, _router, other] = distant();
    let ours = start(&one, config(1, passive(DISTANT)));
    let theirs = start(&other, config(2, PeerConfig { ttl: Some(1), ..peer(OURS) }));
    eventually("a router says that it is too far", || reason(&theirs).contains("no route to the peer"));
    theirs.configure(config(2, PeerConfig { ttl: Some(2), ..peer(OURS) }));
    eventually("two hops are enough", || is_up(&ours) && is_up(&theirs));
}
