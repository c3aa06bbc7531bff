//! Random histories of rows of every kind that the graph knows: what the changes add up to has to be what a new graph
//! makes of the rows that are left, whatever came before and wherever flushes fell; and deleting everything leaves nothing.

#[path = "../calc_state/consumer.rs"]
mod consumer;
mod universe;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Key, Row};
use calc::{Graph, GraphConfig};

use consumer::Consumer;
use serde_json::json;
use testkit::clusters::Generator;
use testkit::objects;
use universe::universe;

/// The node of the universe.
const HERE: &str = "here";
const SEEDS: u64 = 30;
const STEPS: usize = 250;
/// Of a random cluster.
const CHANGES: usize = 20;

type Rows = BTreeMap<Key, Arc<Row>>;

fn graph(node: &str) -> Graph {
    let mut graph = Graph::new(GraphConfig::new(node));
    graph.on_in_sync();
    graph
}

fn flush(graph: &mut Graph, consumer: &mut Consumer) {
    graph.flush().into_iter().for_each(|change| consumer.apply(change));
}

/// What a graph makes of these rows when it sees each once, in the order of their keys.
fn from_scratch(node: &str, rows: &Rows) -> Consumer {
    let (mut graph, mut consumer) = (graph(node), Consumer::default());
    rows.iter().for_each(|(key, row)| graph.on_update(key, Some(row.clone())));
    flush(&mut graph, &mut consumer);
    consumer
}

#[test]
fn the_state_depends_on_the_rows_alone() {
    let universe = universe();
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut graph, mut consumer, mut rows) = (graph(HERE), Consumer::default(), Rows::new());
        for _ in 0..STEPS {
            let (key, variants) = &universe[random.usize(..universe.len())];
            let row = random.choice(variants).filter(|_| random.u8(..4) > 0).cloned();
            match &row {
                Some(row) => rows.insert(key.clone(), row.clone()),
                None => rows.remove(key),
            };
            graph.on_update(key, row);
            if random.u8(..5) == 0 {
                flush(&mut graph, &mut consumer);
                assert_eq!(consumer, from_scratch(HERE, &rows));
            }
        }
        let mut keys: Vec<Key> = rows.into_keys().collect();
        random.shuffle(&mut keys);
        keys.iter().for_each(|key| graph.on_update(key, None));
        flush(&mut graph, &mut consumer);
        assert_eq!(consumer, from_scratch(HERE, &Rows::new()));
        assert_eq!((graph.size(), graph.take_problems()), (0, vec![]));
    }
}

/// The same with whole clusters, as a dataplane's kernel is compared with the evaluator (crates/dataplane/tests/proof).
#[test]
fn so_does_that_of_random_clusters() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut generator = Generator::new(seed);
        let (mut graph, mut consumer, mut rows) = (graph(objects::NODE), Consumer::default(), Rows::new());
        let mut cluster = generator.cluster();
        for _ in 0..CHANGES {
            let next =
                objects::rows(&json!(cluster.objects())).expect("the generator makes what can be read");
            rows.keys().filter(|key| !next.contains_key(key)).for_each(|key| graph.on_update(key, None));
            for (key, row) in next.iter().filter(|(key, row)| rows.get(key) != Some(row)) {
                graph.on_update(key, Some(row.clone()));
            }
            rows = next;
            if generator.random().bool() {
                flush(&mut graph, &mut consumer);
                assert_eq!(consumer, from_scratch(objects::NODE, &rows));
            }
            generator.mutate(&mut cluster);
        }
        rows.keys().for_each(|key| graph.on_update(key, None));
        flush(&mut graph, &mut consumer);
        assert_eq!((consumer, graph.size()), (from_scratch(objects::NODE, &Rows::new()), 0));
    }
}

#[test]
fn nothing_is_said_before_all_is_there_and_then_all_at_once() {
    let universe = universe();
    let mut graph = Graph::new(GraphConfig::new(HERE));
    let (mut consumer, mut rows) = (Consumer::default(), Rows::new());
    for (key, variants) in &universe {
        graph.on_update(key, Some(variants[0].clone()));
        rows.insert(key.clone(), variants[0].clone());
        assert_eq!(graph.flush(), []);
    }
    graph.on_in_sync();
    graph.on_in_sync();
    let changes = graph.flush();
    assert_eq!(changes.last(), Some(&calc::contract::Change::InSync));
    changes.into_iter().for_each(|change| consumer.apply(change));
    assert_eq!(consumer, from_scratch(HERE, &rows));
    assert_eq!(graph.flush(), []);
}

#[test]
fn a_row_of_another_kind_than_its_key_is_no_row() {
    let universe = universe();
    let [(wrong_key, _), (_, variants)] = [&universe[0], &universe[universe.len() - 1]];
    let mut graph = graph(HERE);
    graph.flush();
    graph.on_update(wrong_key, Some(variants[0].clone()));
    assert_eq!((graph.flush(), graph.size()), (vec![], 0));
}
