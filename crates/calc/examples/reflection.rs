//! Figures of nodes that choose their own route reflectors.
//!
//!     cargo run --release -p calc --example reflection -- [SEED [NODES...]]
//!
//! 10, 100 and 1,000 nodes are simulated whole: a planner and a speaker for each, virtual time, rows that reach everyone up to
//! 2 s late. At 5,000 nodes the choice alone is worked out, and who could reach whom through the sessions that follow from
//! it: no messages are exchanged.

#[path = "../tests/reflection/world.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use calc::reflection::{Member, Organisation, Settings, Standing, dialled};
use serde_json::json;
use world::World;

const MINUTE: Duration = Duration::from_secs(60);
const ZONES: usize = 3;

fn main() {
    let mut numbers =
        std::env::args().skip(1).map(|text| text.parse::<usize>().expect("arguments are numbers"));
    let seed = numbers.next().unwrap_or(1) as u64;
    let sizes: Vec<usize> = numbers.collect();
    println!("seed {seed}; {ZONES} zones, racks of 8 nodes, mesh up to 50 nodes, 2 reflectors a client");
    for nodes in if sizes.is_empty() { vec![10, 100, 1_000] } else { sizes } {
        simulate(seed, nodes);
    }
    model(seed, 5_000);
}

fn simulate(seed: u64, nodes: usize) {
    let mut world = World::new(seed, ZONES, &json!({"meshLimit": 50}));
    for _ in 0..nodes {
        world.add();
    }
    for host in 0..nodes {
        world.boot(host);
    }
    let took = converge(&mut world);
    let (sessions, most) = world.sessions();
    let reflectors = world.live(true).len();
    println!(
        "\n{nodes} nodes, simulated: {sessions} sessions ({} in a full mesh), {reflectors} reflectors, at most {most} sessions a node",
        nodes * (nodes - 1) / 2
    );
    println!("  {:44} whole after {took:?}", "all start at once");
    event(&mut world, "a node joins", |world| {
        world.join();
    });
    event(&mut world, "a client leaves", |world| {
        let client = world.live(false)[0];
        world.leave(client);
    });
    let Some(reflector) = world.live(true).first().copied() else { return };
    event(&mut world, "a reflector is restarted (5 s)", |world| {
        world.kill(reflector);
        world.run(Duration::from_secs(5));
        world.boot(reflector);
    });
    event(&mut world, "a reflector loses power for 6 min", |world| {
        world.power_off(reflector);
        world.run(6 * MINUTE);
        world.boot(reflector);
    });
    event(&mut world, "a reflector leaves for good", |world| world.leave(reflector));
    event(&mut world, "a zone is cut off for 6 min", |world| {
        world.cut(1, true);
        world.run(6 * MINUTE);
        world.cut(1, false);
    });
}

/// Lets something happen, and says what it cost until nothing is left to do.
fn event(world: &mut World, what: &str, happens: impl FnOnce(&mut World)) {
    let (before, lost) = (world.counts, world.losses.len());
    happens(world);
    let took = converge(world);
    world.run_until(10 * MINUTE, World::is_settled).expect("settles");
    world.run(2 * MINUTE);
    assert!(world.is_converged(), "{what}: not whole");
    println!(
        "  {what:44} whole after {took:?}, {} sessions made, {} live routes lost",
        (world.counts.established - before.established) / 2,
        world.losses.len() - lost
    );
}

fn converge(world: &mut World) -> Duration {
    world.run_until(10 * MINUTE, World::is_converged).expect("converges")
}

fn cluster(nodes: usize) -> BTreeMap<String, Member> {
    let member = |number: usize| Member {
        domains: vec![format!("zone-{}", number % ZONES), format!("rack-{}", number / ZONES / 8)],
        may_reflect: true,
    };
    (0..nodes).map(|number| (world::name(number), member(number))).collect()
}

type Sessions = BTreeSet<(String, String)>;

/// The sessions of clients with the reflectors that they prefer, and of reflectors with each other.
fn sessions(members: &BTreeMap<String, Member>) -> (Organisation, Sessions) {
    let settings = Settings { mesh_limit: 50, ..Settings::default() };
    let organisation = Organisation::of(members, &settings).expect("beyond a mesh");
    let mut sessions = Sessions::new();
    for name in members.keys() {
        let others: Vec<String> = match organisation.is_reflector(name) {
            true => {
                organisation.reflectors().filter(|other| *other < name.as_str()).map(str::to_owned).collect()
            }
            false => preferred(&organisation, name),
        };
        sessions.extend(others.into_iter().map(|other| (name.clone(), other)));
    }
    (organisation, sessions)
}

fn preferred(organisation: &Organisation, client: &str) -> Vec<String> {
    let ranking = organisation.ranking(client).into_iter();
    ranking.filter(|(_, is)| *is == Standing::Preferred).map(|(name, _)| name.to_owned()).collect()
}

fn model(seed: u64, nodes: usize) {
    let members = cluster(nodes);
    #[expect(clippy::disallowed_methods, reason = "the figure is a time")]
    let begun = std::time::Instant::now();
    let (organisation, before) = sessions(&members);
    let took = begun.elapsed();
    let mut load: BTreeMap<&str, usize> = BTreeMap::new();
    before.iter().for_each(|(_, reflector)| *load.entry(reflector).or_default() += 1);
    println!(
        "\n{nodes} nodes, choice only: {} sessions ({} in a full mesh), {} reflectors, {} to {} sessions each; worked out in {took:?}",
        before.len(),
        nodes * (nodes - 1) / 2,
        organisation.reflectors().count(),
        load.values().min().unwrap_or(&0),
        load.values().max().unwrap_or(&0),
    );
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut joins, mut leaves) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let mut more = members.clone();
        let number = nodes + rng.usize(0..5_000);
        let rack = format!("rack-{}", rng.usize(0..nodes / ZONES / 8));
        let domains = vec![format!("zone-{}", rng.usize(0..ZONES)), rack];
        more.insert(world::name(number), Member { domains, may_reflect: true });
        joins.push(sessions(&more).1.difference(&before).count());
        let mut fewer = members.clone();
        fewer.remove(&world::name(rng.usize(0..nodes)));
        leaves.push(sessions(&fewer).1.difference(&before).count());
    }
    let mean = |moved: &[usize]| moved.iter().sum::<usize>() as f64 / moved.len() as f64;
    println!("  50 joins: {:.1} sessions made on average, at most {:?}", mean(&joins), joins.iter().max());
    println!("  50 leaves: {:.1} sessions made on average, at most {:?}", mean(&leaves), leaves.iter().max());
    for dead in [1, 2, 3] {
        let isolated =
            (0..50).map(|_| isolated(&organisation, &members, &mut rng, dead, None)).sum::<usize>();
        println!("  {dead} reflectors dead, 50 times: {isolated} clients without a live reflector");
    }
    let cut =
        (0..ZONES).map(|zone| isolated(&organisation, &members, &mut rng, 0, Some(zone))).sum::<usize>();
    println!("  each zone cut off: {cut} clients without a reflector on their side");
}

/// How many live clients have no session with a reflector that lives on their side of a cut, once they have dialled those
/// that stand by.
fn isolated(
    organisation: &Organisation,
    members: &BTreeMap<String, Member>,
    rng: &mut fastrand::Rng,
    dead: usize,
    cut: Option<usize>,
) -> usize {
    let all: Vec<&str> = organisation.reflectors().collect();
    let dead: BTreeSet<&str> = rng.choose_multiple(all.iter().copied(), dead).into_iter().collect();
    let side = |name: &str| cut.is_some_and(|zone| members[name].domains[0] == format!("zone-{zone}"));
    let clients = members.keys().filter(|name| !organisation.is_reflector(name));
    let is_isolated = |client: &&String| {
        let ranking = organisation.ranking(client);
        let is_out = |name: &str| dead.contains(name) || side(name) != side(client);
        let down: BTreeSet<&str> =
            ranking.iter().map(|(name, _)| *name).filter(|name| is_out(name)).collect();
        dialled(&ranking, &down).into_iter().all(is_out)
    };
    clients.filter(is_isolated).count()
}
