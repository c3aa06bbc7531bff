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
use universe::universe;

const SEEDS: u64 = 30;
const STEPS: usize = 250;

type Rows = BTreeMap<Key, Arc<Row>>;

fn graph() -> Graph {
    let mut graph = Graph::new(GraphConfig::new("here"));
    graph.on_in_sync();
    graph
}

fn flush(graph: &mut Graph, consumer: &mut Consumer) {
    graph.flush().into_iter().for_each(|change| consumer.apply(change));
}

/// What a graph makes of these rows when it sees each once, in the order of their keys.
fn from_scratch(rows: &Rows) -> Consumer {
    let (mut graph, mut consumer) = (graph(), Consumer::default());
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
        let (mut graph, mut consumer, mut rows) = (graph(), Consumer::default(), Rows::new());
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
                assert_eq!(consumer, from_scratch(&rows));
            }
        }
        let mut keys: Vec<Key> = rows.into_keys().collect();
        random.shuffle(&mut keys);
        keys.iter().for_each(|key| graph.on_update(key, None));
        flush(&mut graph, &mut consumer);
        assert_eq!(consumer, from_scratch(&Rows::new()));
        assert_eq!((graph.size(), graph.take_problems()), (0, vec![]));
    }
}

#[test]
fn nothing_is_said_before_all_is_there_and_then_all_at_once() {
    let universe = universe();
    let mut graph = Graph::new(GraphConfig::new("here"));
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
    assert_eq!(consumer, from_scratch(&rows));
    assert_eq!(graph.flush(), []);
}

#[test]
fn a_row_of_another_kind_than_its_key_is_no_row() {
    let universe = universe();
    let [(wrong_key, _), (_, variants)] = [&universe[0], &universe[universe.len() - 1]];
    let mut graph = graph();
    graph.flush();
    graph.on_update(wrong_key, Some(variants[0].clone()));
    assert_eq!((graph.flush(), graph.size()), (vec![], 0));
}
