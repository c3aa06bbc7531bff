use super::*;

/// Nodes in zones, each with racks of 20.
fn cluster(nodes: usize, zones: usize) -> BTreeMap<String, Member> {
    (0..nodes).map(|number| (name(number), member(number, zones))).collect()
}

fn name(number: usize) -> String {
    format!("node-{number:04}")
}

fn member(number: usize, zones: usize) -> Member {
    let zone = format!("zone-{}", number % zones);
    Member { domains: vec![zone, format!("rack-{}", number / zones / 20)], may_reflect: true }
}

fn organised(members: &BTreeMap<String, Member>) -> Organisation {
    Organisation::of(members, &Settings::default()).expect("beyond a mesh")
}

/// Who prefers whom.
fn sessions(members: &BTreeMap<String, Member>) -> BTreeSet<(String, String)> {
    let organisation = organised(members);
    let mut sessions = BTreeSet::new();
    for client in members.keys().filter(|name| !organisation.is_reflector(name)) {
        for (reflector, standing) in organisation.ranking(client) {
            if standing == Standing::Preferred {
                sessions.insert((client.clone(), reflector.to_owned()));
            }
        }
    }
    sessions
}

#[test]
fn few_nodes_are_a_mesh() {
    assert_eq!(Organisation::of(&cluster(100, 3), &Settings::default()), None);
    assert!(Organisation::of(&cluster(101, 3), &Settings::default()).is_some());
    let mut members = cluster(200, 3);
    members.values_mut().skip(1).for_each(|member| member.may_reflect = false);
    assert_eq!(Organisation::of(&members, &Settings::default()), None, "one reflector is none");
}

#[test]
fn reflectors_are_at_least_two_in_different_domains() {
    for (nodes, zones) in [(101, 2), (150, 3), (1000, 3), (1000, 1), (5000, 7)] {
        let members = cluster(nodes, zones);
        let organisation = organised(&members);
        let mut by_zone: BTreeMap<&str, usize> = BTreeMap::new();
        for reflector in organisation.reflectors() {
            *by_zone.entry(&members[reflector].domains[0]).or_default() += 1;
        }
        assert_eq!(by_zone.len(), zones.min(organisation.reflectors().count()));
        let (least, most) = (by_zone.values().min().unwrap(), by_zone.values().max().unwrap());
        assert!(most - least <= 1, "{by_zone:?}");
        let racks: BTreeSet<_> = organisation.reflectors().map(|name| &members[name].domains).collect();
        let all: BTreeSet<_> = members.values().map(|member| &member.domains).collect();
        assert_eq!(racks.len(), organisation.reflectors().count().min(all.len()), "racks are shared");
    }
}

#[test]
fn a_client_prefers_reflectors_in_different_zones_or_else_racks() {
    for zones in [1, 2, 3] {
        let members = cluster(1000, zones);
        let organisation = organised(&members);
        for client in members.keys() {
            let ranking = organisation.ranking(client);
            assert_eq!(ranking.len(), 4);
            let [(first, Standing::Preferred), (second, Standing::Preferred), ..] = ranking[..] else {
                panic!("{ranking:?}")
            };
            let (first, second) = (&members[first].domains, &members[second].domains);
            assert_ne!(first, second);
            assert!(zones == 1 || first[0] != second[0]);
        }
    }
}

#[test]
fn nodes_without_labels_are_served_just_as_well() {
    let mut members = cluster(1000, 3);
    members.values_mut().for_each(|member| member.domains = vec![String::new(); 2]);
    let organisation = organised(&members);
    assert_eq!(organisation.reflectors().count(), 10);
    assert!(members.keys().all(|client| organisation.ranking(client).len() == 4));
}

#[test]
fn the_load_is_spread() {
    let members = cluster(5000, 3);
    let organisation = organised(&members);
    let mut load: BTreeMap<String, usize> = BTreeMap::new();
    for (_, reflector) in sessions(&members) {
        *load.entry(reflector).or_default() += 1;
    }
    assert_eq!(load.len(), organisation.reflectors().count());
    let (least, most) = (load.values().min().unwrap(), load.values().max().unwrap());
    assert!(*least > 120 && *most < 280, "{least}..{most} clients");
}

#[test]
fn a_node_that_comes_or_goes_moves_few_sessions() {
    for (nodes, number) in [(1010, 1010), (1010, 2000), (4010, 4010)] {
        let before = cluster(nodes, 3);
        let mut after = before.clone();
        after.insert(name(number), member(number, 3));
        assert_few_moved(&before, &after);
    }
    let before = cluster(1020, 3);
    for gone in 0..1020 {
        let mut after = before.clone();
        after.remove(&name(gone));
        if gone % 113 == 0 || organised(&before).is_reflector(&name(gone)) {
            assert_few_moved(&before, &after);
        }
    }
}

/// At most the sessions of one reflector that is gone and one that is new, of all.
fn assert_few_moved(before: &BTreeMap<String, Member>, after: &BTreeMap<String, Member>) {
    let (old, new) = (organised(before), organised(after));
    let old_names: BTreeSet<&str> = old.reflectors().collect();
    let new_names: BTreeSet<&str> = new.reflectors().collect();
    let replaced = old_names.symmetric_difference(&new_names).count();
    assert!(replaced <= 2, "{replaced} reflectors changed");
    let (old, new) = (sessions(before), sessions(after));
    let moved = new.difference(&old).count();
    let most = 2 + replaced * new.len() * 2 / new_names.len();
    assert!(moved <= most, "{moved} of {} sessions moved, {replaced} reflectors changed", new.len());
}

#[test]
fn the_choice_depends_on_names_and_labels_only_not_on_the_past() {
    let members = cluster(300, 3);
    let mut others = cluster(310, 3);
    (300..310).for_each(|number| drop(others.remove(&name(number))));
    assert_eq!(organised(&members), organised(&others));
}

#[test]
fn who_is_down_is_stood_in_for() {
    let ranking = [
        ("a", Standing::Preferred),
        ("b", Standing::Preferred),
        ("c", Standing::Standby),
        ("d", Standing::Standby),
    ];
    let with_down = |down: &[&str]| dialled(&ranking, &down.iter().copied().collect());
    assert_eq!(with_down(&[]), ["a", "b"]);
    assert_eq!(with_down(&["c"]), ["a", "b"]);
    assert_eq!(with_down(&["a"]), ["a", "b", "c"]);
    assert_eq!(with_down(&["a", "c"]), ["a", "b", "c", "d"]);
    assert_eq!(with_down(&["a", "b"]), ["a", "b", "c", "d"]);
    assert_eq!(with_down(&["a", "b", "c", "d"]), ["a", "b", "c", "d"]);
}

#[test]
fn the_settings_are_followed() {
    let members = cluster(50, 2);
    let settings = Settings { mesh_limit: 0, reflectors: Some(5), per_client: 3 };
    let organisation = Organisation::of(&members, &settings).unwrap();
    assert_eq!(organisation.reflectors().count(), 5);
    let ranking = organisation.ranking("node-0001");
    assert_eq!(ranking.iter().filter(|(_, standing)| *standing == Standing::Preferred).count(), 3);
    let (preferred, standby) = (ranking[0].0, ranking[4].0);
    assert_eq!(organisation.standing("node-0001", preferred), Some(Standing::Preferred));
    assert_eq!(organisation.standing("node-0001", standby), Some(Standing::Standby));
    let few = Settings { reflectors: Some(500), ..settings };
    assert_eq!(Organisation::of(&members, &few).unwrap().reflectors().count(), 50);
}
