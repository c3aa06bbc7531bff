//! Liveness and readiness, part by part, each with the reason why not.
//!
//! A part of the node (`datastore`, `dataplane`, `bgp`, `cni`) registers once and then says how it is. The node is live
//! while every part with a deadline has beaten within it, and ready while every part is; an answer that is not "yes"
//! names the part and its cause, so that nobody has to read logs to learn why a node is not ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All parts. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    parts: BTreeMap<&'static str, Part>,
    /// By who says them.
    notices: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Debug, Clone)]
struct Part {
    not_ready: Option<String>,
    /// A part that must beat: how often, and when it last did.
    heartbeat: Option<(Duration, Instant)>,
}

impl Health {
    /// Adds a part, which is not ready until it says so. With `deadline`, the node stops being live when the part has
    /// not beaten for that long.
    pub fn register(&self, name: &'static str, deadline: Option<Duration>) -> Reporter {
        let part = Part {
            not_ready: Some("starting".to_owned()),
            heartbeat: deadline.map(|deadline| (deadline, Instant::now())),
        };
        self.lock().parts.insert(name, part);
        Reporter { health: self.clone(), name }
    }

    /// `part: cause` for each part that is not ready; empty when the node is.
    pub fn not_ready(&self) -> Vec<String> {
        let state = self.lock();
        let causes = state.parts.iter().filter_map(|(name, part)| Some((name, part.not_ready.as_ref()?)));
        causes.map(|(name, cause)| format!("{name}: {cause}")).collect()
    }

    /// `part: cause` for each part that has missed its deadline at `now`; empty when the node is live.
    pub fn not_live(&self, now: Instant) -> Vec<String> {
        let state = self.lock();
        let late = state.parts.iter().filter_map(|(name, part)| {
            let (deadline, last) = part.heartbeat?;
            let silent = now.saturating_duration_since(last);
            (silent > deadline).then(|| {
                format!("{name}: no sign of life for {} s (limit {} s)", silent.as_secs(), deadline.as_secs())
            })
        });
        late.collect()
    }

    /// What an operator should know although the node is ready, such as a setting that has no effect.
    pub fn notices(&self) -> Vec<String> {
        self.lock().notices.values().flatten().cloned().collect()
    }

    /// These, and no others, are the notices of a source now.
    pub(crate) fn set_notices(&self, source: &'static str, notices: Vec<String>) {
        self.lock().notices.insert(source, notices);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part's own handle.
#[derive(Debug, Clone)]
pub struct Reporter {
    health: Health,
    name: &'static str,
}

impl Reporter {
    /// The part works.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The part does not do its job, for this reason (one line: what, and what to do about it).
    pub fn not_ready(&self, cause: impl Into<String>) {
        self.set(Some(cause.into()));
    }

    /// The part is alive.
    pub fn beat(&self) {
        if let Some(part) = self.health.lock().parts.get_mut(self.name) {
            part.heartbeat = part.heartbeat.map(|(deadline, _)| (deadline, Instant::now()));
        }
    }

    fn set(&self, not_ready: Option<String>) {
        let mut state = self.health.lock();
        let Some(part) = state.parts.get_mut(self.name) else { return };
        if part.not_ready != not_ready {
            match &not_ready {
                None => tracing::info!(part = self.name, "ready"),
                Some(cause) => tracing::warn!(part = self.name, cause, "not ready"),
            }
            part.not_ready = not_ready;
        }
        part.heartbeat = part.heartbeat.map(|(deadline, _)| (deadline, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_not_ready_until_it_says_so_and_names_its_cause() {
        let health = Health::default();
        let bgp = health.register("bgp", None);
        let datastore = health.register("datastore", None);
        assert_eq!(health.not_ready(), ["bgp: starting", "datastore: starting"]);
        datastore.ready();
        bgp.not_ready("no peer of 2 is Established");
        assert_eq!(health.not_ready(), ["bgp: no peer of 2 is Established"]);
        bgp.ready();
        assert!(health.not_ready().is_empty());
    }

    #[test]
    fn a_part_that_falls_silent_ends_liveness_until_it_beats_again() {
        let health = Health::default();
        let dataplane = health.register("dataplane", Some(Duration::from_secs(90)));
        let later = Instant::now() + Duration::from_secs(100);
        let causes = health.not_live(later);
        assert!(causes[0].starts_with("dataplane: no sign of life for ") && causes.len() == 1, "{causes:?}");
        dataplane.beat();
        assert!(health.not_live(Instant::now()).is_empty());
    }
}
