//! The ways from state to state. The result after each step has to depend on the state alone.

use std::collections::BTreeSet;

use calc::{Graph, GraphConfig};

use crate::adapter::{Input, InputKey, Inputs, feed};
use crate::consumer::Consumer;
use crate::expectation::{Facts, seen, seen_beside};

/// A state.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) this_host: String,
    pub(crate) inputs: Inputs,
    pub(crate) expected: Facts,
}

/// A walk through states.
pub(crate) struct Walk<'a> {
    steps: Vec<&'a Step>,
}

/// A graph, what it has been fed, and who listens to it.
struct Run {
    graph: Graph,
    consumer: Consumer,
    fed: Inputs,
}

/// How many random orders are tried for each walk.
const SEEDS: u64 = 4;

type Change<'a> = (InputKey, Option<&'a Input>);

impl<'a> Walk<'a> {
    pub(crate) fn new(steps: &[&'a Step]) -> Self {
        Self { steps: steps.to_vec() }
    }

    /// # Errors
    /// The way, the step and what differs.
    pub(crate) fn in_every_way(&self) -> Result<(), String> {
        self.forwards().map_err(|error| format!("forwards: {error}"))?;
        let reversed = Self { steps: self.steps.iter().rev().copied().collect() };
        reversed.forwards().map_err(|error| format!("reversed: {error}"))?;
        self.emptied_between().map_err(|error| format!("deleted and added again: {error}"))?;
        for flush_between in [false, true] {
            self.flapped(flush_between).map_err(|error| format!("flapped ({flush_between}): {error}"))?;
        }
        for seed in 0..SEEDS {
            self.shuffled(seed, false).map_err(|error| format!("shuffled (seed {seed}): {error}"))?;
            self.shuffled(seed, true).map_err(|error| format!("split (seed {seed}): {error}"))?;
            self.squashed(seed).map_err(|error| format!("squashed (seed {seed}): {error}"))?;
        }
        Ok(())
    }

    fn forwards(&self) -> Result<(), String> {
        let mut run = Run::new(self.steps[0]);
        self.steps.iter().try_for_each(|step| {
            run.feed_all(run.difference(&step.inputs));
            run.check(step)
        })?;
        run.check_nothing_is_left()
    }

    fn emptied_between(&self) -> Result<(), String> {
        let mut run = Run::new(self.steps[0]);
        self.steps.iter().try_for_each(|step| {
            run.feed_all(run.difference(&step.inputs));
            run.check(step)?;
            run.check_nothing_is_left()?;
            run.feed_all(run.difference(&step.inputs));
            run.check(step)
        })
    }

    /// Every row goes away and comes back.
    fn flapped(&self, flush_between: bool) -> Result<(), String> {
        let mut run = Run::new(self.steps[0]);
        self.steps.iter().try_for_each(|step| {
            run.feed_all(run.difference(&step.inputs));
            for (key, input) in &step.inputs.0 {
                feed(&mut run.graph, key, None);
                if flush_between {
                    run.flush();
                }
                feed(&mut run.graph, key, Some(input));
            }
            run.check(step)
        })?;
        run.check_nothing_is_left()
    }

    /// In random order; with `split`, a flush after every row.
    fn shuffled(&self, seed: u64, split: bool) -> Result<(), String> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut run = Run::new(self.steps[0]);
        self.steps.iter().try_for_each(|step| {
            let mut changes = run.difference(&step.inputs);
            random.shuffle(&mut changes);
            for change in changes {
                run.feed_all(vec![change]);
                if split {
                    run.flush();
                }
            }
            run.check(step)
        })?;
        run.check_nothing_is_left()
    }

    /// All states at once, in-sync somewhere on the way, and one flush at the end.
    fn squashed(&self, seed: u64) -> Result<(), String> {
        let mut random = fastrand::Rng::with_seed(seed);
        let Some(last) = self.steps.last() else { return Ok(()) };
        let mut run = Run::before_sync(self.steps[0]);
        for step in &self.steps {
            let mut changes = run.difference(&step.inputs);
            random.shuffle(&mut changes);
            run.feed_all(changes);
        }
        run.graph.on_in_sync();
        run.check(last)?;
        run.check_nothing_is_left()
    }
}

impl Run {
    fn new(step: &Step) -> Self {
        let mut run = Self::before_sync(step);
        run.graph.on_in_sync();
        run
    }

    fn before_sync(step: &Step) -> Self {
        let graph = Graph::new(GraphConfig::new(step.this_host.as_str()));
        Self { graph, consumer: Consumer::default(), fed: Inputs::default() }
    }

    /// What leads from what has been fed to other inputs.
    fn difference<'a>(&self, to: &'a Inputs) -> Vec<Change<'a>> {
        let keys: BTreeSet<&InputKey> = self.fed.0.keys().chain(to.0.keys()).collect();
        let differ = keys.into_iter().filter(|key| self.fed.0.get(key) != to.0.get(key));
        differ.map(|key| (key.clone(), to.0.get(key))).collect()
    }

    fn feed_all(&mut self, changes: Vec<Change<'_>>) {
        for (key, input) in changes {
            feed(&mut self.graph, &key, input);
            match input {
                Some(input) => self.fed.0.insert(key, input.clone()),
                None => self.fed.0.remove(&key),
            };
        }
    }

    fn flush(&mut self) {
        for change in self.graph.flush() {
            self.consumer.apply(change);
        }
    }

    fn check(&mut self, step: &Step) -> Result<(), String> {
        self.flush();
        let problems = self.graph.take_problems();
        if !problems.is_empty() {
            return Err(format!("{}: {problems:?}", step.id));
        }
        let seen = seen_beside(&self.consumer, &step.expected);
        if seen == step.expected {
            return Ok(());
        }
        let list = |facts: Vec<&String>| facts.iter().map(|fact| format!("\n    {fact}")).collect::<String>();
        let missing = list(step.expected.difference(&seen).collect());
        let unexpected = list(seen.difference(&step.expected).collect());
        Err(format!("{}\n  missing:{missing}\n  unexpected:{unexpected}", step.id))
    }

    fn check_nothing_is_left(&mut self) -> Result<(), String> {
        self.feed_all(self.difference(&Inputs::default()));
        self.flush();
        let left = seen(&self.consumer);
        if !left.is_empty() || self.graph.size() != 0 {
            return Err(format!("after deleting everything: {} left, {left:?}", self.graph.size()));
        }
        Ok(())
    }
}
