use bgp::PeerDifference;

use super::*;

fn changes(change: impl Fn(&mut BgpPlanner)) -> PlanChanges {
    let mut planner = planner();
    let filter = resource("f", &json!({"importV4": [], "exportV4": []}));
    set(&mut planner, &Key::cluster(Kind::BGPFilter, "f"), Some(filter));
    set(&mut planner, &peer(), Some(peer_document(&json!({"filters": ["f"]}))));
    let before = planner.plan();
    change(&mut planner);
    PlanChanges::between(&before, &planner.plan())
}

fn peer() -> Key {
    Key::cluster(Kind::BGPPeer, "p")
}

fn peer_document(more: &Value) -> Value {
    let mut spec = json!({"peerIP": "10.0.0.9", "asNumber": 65001});
    let more = more.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(more);
    resource("p", &spec)
}

fn effects(changes: &PlanChanges) -> Vec<(&str, &SessionEffect)> {
    changes.sessions.iter().map(|session| (session.object.as_str(), &session.effect)).collect()
}

#[test]
fn nothing_that_matters_is_no_change() {
    let changes = changes(|planner| {
        set(planner, &Key::cluster(Kind::BGPFilter, "other"), Some(resource("other", &json!({}))));
    });
    assert!(changes.is_empty(), "{changes:?}");
}

#[test]
fn a_filters_change_is_made_in_place() {
    let of = |direction: &str| {
        let filter = resource("f", &json!({direction: [{"action": "Reject"}]}));
        changes(|planner| set(planner, &Key::cluster(Kind::BGPFilter, "f"), Some(filter.clone())))
    };
    let in_place = |import, export| SessionEffect::InPlace(PeerDifference { reset: false, import, export });
    let import = of("importV4");
    assert_eq!(effects(&import), [("BGPPeer p", &in_place(true, false))]);
    assert!(import.announcements.is_empty());
    let export = of("exportV4");
    assert_eq!(effects(&export), [("BGPPeer p", &in_place(false, true))]);
    let [withdrawn] = &export.announcements[..] else { panic!("{export:?}") };
    assert_eq!(
        (withdrawn.prefix.to_string().as_str(), withdrawn.effect),
        ("192.168.0.0/26", AnnouncementEffect::Withdrawn)
    );
    assert_eq!(withdrawn.peers.len(), 1);
}

#[test]
fn what_the_two_ends_agree_on_resets_the_session_and_says_so() {
    let reference = |name: &str| json!({"password": {"secretKeyRef": {"name": name, "key": "k"}}});
    let cases = [
        (json!({"asNumber": 65002}), "the peer's AS"),
        (json!({"ttlSecurity": 1}), "TTL security"),
        (json!({"localASNumber": 65100}), "our AS towards the peer"),
        (reference("s"), "the password"),
        (json!({"maxRestartTime": "10s"}), "graceful restart"),
        (json!({"keepaliveTime": "10s"}), "the timers"),
    ];
    for (more, cause) in cases {
        let mut more = more;
        more["filters"] = json!(["f"]);
        let changes = changes(|planner| set(planner, &peer(), Some(peer_document(&more))));
        assert_eq!(effects(&changes), [("BGPPeer p", &SessionEffect::Reset(vec![cause]))], "{more}");
    }
}

#[test]
fn sessions_come_and_go_with_what_is_announced_on_them() {
    let gone = changes(|planner| set(planner, &peer(), None));
    assert_eq!(effects(&gone), [("BGPPeer p", &SessionEffect::Removed)]);
    assert_eq!(gone.announcements[0].effect, AnnouncementEffect::Withdrawn);
    let off = resource("default", &json!({"nodeToNodeMeshEnabled": false}));
    let no_mesh = changes(|planner| {
        set(planner, &Key::cluster(Kind::BGPConfiguration, "default"), Some(off.clone()));
    });
    assert_eq!(effects(&no_mesh), [("BGPConfiguration default", &SessionEffect::Removed)]);
    let new = resource("n3", &json!({"bgp": {"ipv4Address": "10.0.0.3/24"}}));
    let more = changes(|planner| set(planner, &node("n3"), Some(new.clone())));
    assert_eq!(effects(&more), [("BGPConfiguration default", &SessionEffect::Added)]);
    assert_eq!(more.announcements[0].effect, AnnouncementEffect::Announced);
}

#[test]
fn a_pool_that_is_withheld_withdraws_its_blocks_from_everyone() {
    let pool = resource("pool", &json!({"cidr": "192.168.0.0/16", "disableBGPExport": true}));
    let changes = changes(|planner| set(planner, &Key::cluster(Kind::IPPool, "pool"), Some(pool.clone())));
    let [change] = &changes.announcements[..] else { panic!("{changes:?}") };
    assert_eq!((change.effect, change.peers.len()), (AnnouncementEffect::Withdrawn, 2));
    assert_eq!(changes.sessions.len(), 2, "both in place: {changes:?}");
}
