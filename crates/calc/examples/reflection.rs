//! Figures of nodes that choose their own route reflectors.
//!
//!     cargo run --release -p calc --example reflection -- [SEED [NODES...]]
//!
//! Clusters of 10, 100 and 1,000 nodes (or of the sizes that are asked for) are simulated whole: a planner and a speaker for each
//! node, virtual time, rows that reach everyone up to 2 s late. From 2,000 nodes on those that may reflect are simulated whole
//! (some more than reflect), and of the others the sessions and by which of them there is a route to whom, but no planners and no
//! RIBs. 1,000 nodes take some minutes and 3 GB, 5,000 nodes somewhat more.
//!
//! Each line says how long it took after something happened until every node had every route again, how many sessions
//! were made, what was sent, and how many routes were lost that had a live path; then how long it took to work that out.

#[path = "../tests/reflection/world/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use calc::reflection::{Member, Organisation, Settings, Standing, dialled};
use world::{Shape, World};

const MINUTE: Duration = Duration::from_secs(60);
const ZONES: usize = 3;
const MESH_LIMIT: usize = 50;
/// From so many nodes on clients are only modelled.
const LARGE: usize = 2_000;

fn main() {
    let mut numbers =
        std::env::args().skip(1).map(|text| text.parse::<usize>().expect("arguments are numbers"));
    let seed = numbers.next().unwrap_or(1);
    let sizes: Vec<usize> = numbers.collect();
    let sizes = if sizes.is_empty() { vec![10, 100, 1_000] } else { sizes };
    println!(
        "seed {seed}; {ZONES} zones, racks of 8 nodes, mesh up to {MESH_LIMIT} nodes, 2 reflectors a client"
    );
    for nodes in sizes {
        choice(seed as u64, nodes);
        simulate(seed as u64, nodes);
    }
}

/// Wall-clock time, for figures.
fn clock() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the figure is a time")]
    Instant::now()
}

fn simulate(seed: u64, nodes: usize) {
    let begun = clock();
    // 11 more may reflect than do at 5,000 nodes.
    let whole_every = (nodes >= LARGE).then_some(nodes * 83 / 5_000);
    let mut world = World::new(seed, Shape { zones: ZONES, mesh_limit: MESH_LIMIT, whole_every });
    for _ in 0..nodes {
        world.add();
    }
    world.boot_all();
    let took = converge(&mut world);
    let (sessions, most) = world.sessions();
    let reflectors = world.live(true);
    println!(
        "  simulated{}: {sessions} sessions, at most {most} at one node, {} reflectors",
        if whole_every.is_some() { ", clients modelled" } else { "" },
        reflectors.len(),
    );
    report("all start at once", took, world.counts, 0, begun);
    event(&mut world, "a node joins", |world| {
        world.join();
    });
    event(&mut world, "a client leaves", |world| {
        let client = world.live(false)[1];
        world.leave(client);
    });
    let Some(reflector) = reflectors.first().copied() else { return };
    event(&mut world, "a reflector is restarted (5 s)", |world| {
        world.kill(reflector);
        world.run(Duration::from_secs(5));
        world.boot(reflector);
    });
    event(&mut world, "a reflector is without power for 6 min", |world| {
        world.power_off(reflector);
        world.run(6 * MINUTE);
        assert!(world.is_converged(), "the others have each other");
        world.boot(reflector);
    });
    event(&mut world, "a reflector leaves for good", |world| world.leave(reflector));
    event(&mut world, "a zone is cut off for 6 min", |world| {
        world.cut(1, true);
        world.run(6 * MINUTE);
        assert!(world.is_converged(), "each side has its own");
        world.cut(1, false);
    });
}

/// Lets something happen, and says what it cost until nothing is left to do.
fn event(world: &mut World, what: &str, happens: impl FnOnce(&mut World)) {
    let begun = clock();
    let (before, lost) = (world.counts, world.losses.len());
    happens(world);
    let took = converge(world);
    world.run_until(10 * MINUTE, World::is_settled).expect("settles");
    world.run(2 * MINUTE);
    assert!(world.is_converged(), "{what}: not whole");
    report(what, took, world.counts.since(before), world.losses.len() - lost, begun);
}

fn report(what: &str, took: Duration, counts: world::Counts, lost: usize, begun: Instant) {
    println!(
        "  {what:40} whole after {:2} s, {:6} sessions made, {:8} UPDATEs ({} by detours, {} MB), {:8} changes for kernels, {lost} live routes lost [{:.1} s]",
        took.as_secs(),
        counts.established / 2,
        counts.updates,
        counts.detours,
        counts.octets / 1_000_000,
        counts.best_routes,
        begun.elapsed().as_secs_f64(),
    );
}

fn converge(world: &mut World) -> Duration {
    world.run_until(10 * MINUTE, World::is_converged).expect("converges")
}

type Sessions = BTreeSet<(String, String)>;

/// The sessions of clients with the reflectors that they prefer, and of reflectors with each other.
fn sessions(members: &BTreeMap<String, Member>, organisation: &Organisation) -> Sessions {
    let mut sessions = Sessions::new();
    for name in members.keys() {
        let others: Vec<String> = match organisation.is_reflector(name) {
            true => {
                organisation.reflectors().filter(|other| *other < name.as_str()).map(str::to_owned).collect()
            }
            false => preferred(organisation, name),
        };
        sessions.extend(others.into_iter().map(|other| (name.clone(), other)));
    }
    sessions
}

fn preferred(organisation: &Organisation, client: &str) -> Vec<String> {
    let ranking = organisation.ranking(client).into_iter();
    ranking.filter(|(_, is)| *is == Standing::Preferred).map(|(name, _)| name.to_owned()).collect()
}

/// What the choice alone says: how the load is spread, and what joins and leaves move.
fn choice(seed: u64, nodes: usize) {
    let member = |number| Member { domains: world::domains(number, ZONES), may_reflect: true };
    let members: BTreeMap<String, Member> =
        (0..nodes).map(|number| (world::name(number), member(number))).collect();
    let organised = |members: &BTreeMap<String, Member>| {
        Organisation::of(members, &Settings { mesh_limit: MESH_LIMIT, ..Settings::default() })
    };
    let mesh = nodes * (nodes - 1) / 2;
    let begun = clock();
    let Some(organisation) = organised(&members) else {
        println!("\n{nodes} nodes: a full mesh, {mesh} sessions");
        return;
    };
    let before = sessions(&members, &organisation);
    let took = begun.elapsed();
    let mut load: BTreeMap<&str, usize> = BTreeMap::new();
    before.iter().for_each(|(_, reflector)| *load.entry(reflector).or_default() += 1);
    println!(
        "\n{nodes} nodes: {} sessions ({mesh} in a full mesh), {} reflectors, {} to {} clients each; worked out in {took:?}",
        before.len(),
        organisation.reflectors().count(),
        load.values().min().unwrap_or(&0),
        load.values().max().unwrap_or(&0),
    );
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut joins, mut leaves) = (Vec::new(), Vec::new());
    let moved = |members: &BTreeMap<String, Member>| {
        organised(members).map_or(0, |other| sessions(members, &other).difference(&before).count())
    };
    for _ in 0..20 {
        let mut more = members.clone();
        let number = nodes + rng.usize(0..nodes);
        more.insert(world::name(number), member(number));
        joins.push(moved(&more));
        let mut fewer = members.clone();
        fewer.remove(&world::name(rng.usize(0..nodes)));
        leaves.push(moved(&fewer));
    }
    let mean = |moved: &[usize]| moved.iter().sum::<usize>() as f64 / moved.len() as f64;
    println!("  20 joins, one at a time: {:.1} sessions made on average", mean(&joins));
    println!("  20 leaves, one at a time: {:.1} sessions made on average", mean(&leaves));
    let reflectors = organisation.reflectors().count();
    for dead in (1..=3).filter(|dead| *dead < reflectors) {
        let isolated =
            (0..20).map(|_| isolated(&organisation, &members, &mut rng, dead, None)).sum::<usize>();
        println!("  {dead} reflectors dead, 20 times: {isolated} clients without a live reflector");
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
