//! What BFD says of a path, and what becomes of the session.

use std::time::Duration;

use bgp::bfd::Path;
use bgp::bfd::packet::Diagnostic;
use bgp::config::{Bfd, ConnectMode};
use bgp::session::{Reason, SessionState};
use bgp::{Endpoints, Input, Output, PeerConfig, PeerId, Start};

use crate::bench::{Bench, OUR_AS, config, peer, peer_address};

const CUT: Path = Path::Down { diagnostic: Diagnostic::TIME_EXPIRED, independent: false };
const FORWARDING_LOST: Path = Path::Down { diagnostic: Diagnostic::TIME_EXPIRED, independent: true };

fn watched(strict: bool) -> PeerConfig {
    let bfd = Bfd { strict, ..Bfd::default() };
    PeerConfig { bfd: Some(bfd), ..peer(2, OUR_AS) }
}

fn bench(strict: bool) -> Bench {
    Bench::new(config(&[("i2", watched(strict)), ("e4", peer(4, 65004))]), Start::Fresh)
}

fn up(strict: bool) -> Bench {
    let mut bench = bench(strict);
    if strict {
        say(&mut bench, Path::Up);
    }
    bench.up("i2");
    bench.up("e4");
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    bench.end_of_rib("i2");
    assert_eq!(bench.kernel.len(), 1);
    bench
}

fn say(bench: &mut Bench, path: Path) {
    bench.input(Input::Path { peer: PeerId::from("i2"), path });
}

fn reason(bench: &Bench) -> Option<Reason> {
    let peers = bench.speaker.status();
    peers.into_iter().find(|peer| peer.id == PeerId::from("i2")).expect("it is configured").reason
}

fn state(bench: &Bench) -> SessionState {
    let peers = bench.speaker.status();
    peers.into_iter().find(|peer| peer.id == PeerId::from("i2")).expect("it is configured").state
}

fn connects(bench: &mut Bench) -> bool {
    let endpoints =
        Endpoints { local: (peer_address(1), 179).into(), remote: (peer_address(2), 40_001).into() };
    let now = bench.now;
    bench.speaker.accept(endpoints, now).is_some()
}

#[test]
fn a_path_that_goes_down_takes_session_and_routes_with_it_at_once() {
    let mut bench = up(false);
    say(&mut bench, Path::Up);
    say(&mut bench, CUT);
    assert!(bench.kernel.is_empty(), "in spite of graceful restart");
    assert!(bench.has("e4").is_empty());
    let told = bench.probes["i2"].notification.clone().expect("the peer is told");
    assert_eq!((told.code, told.subcode), (6, 10));
    assert_eq!(reason(&bench), Some(Reason::PathDown(Diagnostic::TIME_EXPIRED)));
    assert_eq!(
        reason(&bench).map(|reason| reason.to_string()).as_deref(),
        Some("BFD: path down: control detection time expired")
    );
    assert_eq!(state(&bench), SessionState::Idle);
}

#[test]
fn a_session_that_does_not_wait_is_tried_again_after_a_rest() {
    let mut bench = up(false);
    say(&mut bench, CUT);
    assert!(!connects(&mut bench));
    bench.wait(Duration::from_secs(3));
    assert_eq!(state(&bench), SessionState::Active);
    assert!(connects(&mut bench));
}

#[test]
fn a_session_that_waits_is_tried_again_when_the_path_is_up_and_not_before() {
    let mut bench = up(true);
    say(&mut bench, CUT);
    bench.wait(Duration::from_secs(100));
    assert_eq!(state(&bench), SessionState::Idle);
    assert!(!connects(&mut bench));
    say(&mut bench, Path::Up);
    assert_eq!(state(&bench), SessionState::Active);
    assert!(connects(&mut bench));
}

#[test]
fn a_session_that_waits_does_not_begin_before_the_path_was_ever_up() {
    let mut bench = bench(true);
    assert_eq!(state(&bench), SessionState::Idle);
    assert_eq!(reason(&bench), Some(Reason::WaitsForPath));
    assert!(!connects(&mut bench));
    say(&mut bench, Path::Up);
    assert!(connects(&mut bench));
}

#[test]
fn a_session_that_waits_does_not_dial() {
    let dials = PeerConfig { connect: ConnectMode::Active, ..watched(true) };
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has to begin somewhere; only differences count"
    )]
    let now = std::time::Instant::now();
    let mut speaker = bgp::Speaker::new(config(&[("i2", dials)]), Start::Fresh, 1, now);
    let dialled = |speaker: &mut bgp::Speaker| {
        std::iter::from_fn(|| speaker.poll_output()).any(|output| matches!(output, Output::Connect { .. }))
    };
    assert!(!dialled(&mut speaker));
    speaker.handle_timeout(now + Duration::from_secs(60));
    assert!(!dialled(&mut speaker));
    speaker.handle_input(Input::Path { peer: PeerId::from("i2"), path: Path::Up }, now);
    assert!(dialled(&mut speaker));
}

#[test]
fn a_path_that_is_held_down_by_its_operator_changes_nothing() {
    let mut bench = up(true);
    say(&mut bench, Path::AdminDown);
    assert_eq!(state(&bench), SessionState::Established);
    assert_eq!(bench.kernel.len(), 1);
    bench.lose("i2");
    assert!(connects(&mut bench), "nor does it hold a new session back");
}

#[test]
fn routes_that_wait_for_a_restarting_peer_go_only_if_its_forwarding_has_failed() {
    let mut restarting = up(false);
    restarting.lose("i2");
    say(&mut restarting, CUT);
    assert_eq!(restarting.kernel.len(), 1, "its routing process is away, which is no news");
    let mut failed = up(false);
    failed.lose("i2");
    say(&mut failed, FORWARDING_LOST);
    assert!(failed.kernel.is_empty());
}

#[test]
fn to_watch_a_path_or_no_longer_does_not_reset_the_session() {
    let mut bench = up(false);
    assert_eq!(bench.speaker.watched_paths().len(), 1);
    let without = config(&[("i2", peer(2, OUR_AS)), ("e4", peer(4, 65004))]);
    bench.input(Input::Configure(without));
    assert_eq!(state(&bench), SessionState::Established);
    assert!(bench.speaker.watched_paths().is_empty());
    say(&mut bench, CUT);
    assert_eq!(state(&bench), SessionState::Established, "what nobody watches is not believed");
    bench.input(Input::Configure(config(&[("i2", watched(true)), ("e4", peer(4, 65004))])));
    assert_eq!(state(&bench), SessionState::Established, "an established session does not wait");
}

#[test]
fn a_reset_of_the_session_does_not_forget_that_the_path_is_up() {
    let mut bench = up(true);
    let mut other = watched(true);
    other.timers.hold *= 2;
    bench.input(Input::Configure(config(&[("i2", other), ("e4", peer(4, 65004))])));
    assert_eq!(state(&bench), SessionState::Active, "BFD's session has gone on, and says nothing new");
}
