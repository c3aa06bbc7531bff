//! CalicoNodeStatus: the status of objects that ask for this node's, filled in every `updatePeriodSeconds`.
//!
//! A thread is told of the objects and writes the classes that each asks for. As in Calico, `lastUpdated` says that the node
//! still reports; when nothing else has changed, nothing else does. A period of 0 stops the reports, and leaves the last one.

mod report;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use api::{CalicoNodeStatusSpec, Key, Kind, Resource, Row};
use datastore::resources::{ResourceError, Resources};
use datastore::{Scope, Store, Update};

pub(crate) use report::Reporter;

/// The period when an object names none.
const DEFAULT_PERIOD: u32 = 10;
/// How long to sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// The rows that it follows.
pub(crate) fn scope() -> Scope {
    Scope::all(Kind::CalicoNodeStatus)
}

/// Where those rows go. The reports end with the last of these.
#[derive(Debug, Clone)]
pub(crate) struct Rows(Sender<Vec<Update>>);

impl Rows {
    /// Takes out the rows that are followed here, and hands them on.
    pub(crate) fn take(&self, updates: &mut Vec<Update>) {
        let ours =
            |update: &mut Update| matches!(&update.key, Key::Resource { kind: Kind::CalicoNodeStatus, .. });
        let rows: Vec<Update> = updates.extract_if(.., ours).collect();
        if !rows.is_empty() {
            // A thread that has panicked reports no more; the node goes on.
            let _ = self.0.send(rows);
        }
    }
}

/// Starts to report.
///
/// # Errors
/// No thread.
pub(crate) fn start(node: &str, store: Arc<dyn Store>, reporter: Reporter) -> io::Result<Rows> {
    let (sender, rows) = channel();
    let mut work = Work { node: node.to_owned(), store, reporter, objects: BTreeMap::new() };
    std::thread::Builder::new().name("node-status".to_owned()).spawn(move || work.run(&rows))?;
    Ok(Rows(sender))
}

struct Work {
    node: String,
    store: Arc<dyn Store>,
    reporter: Reporter,
    /// Those for this node.
    objects: BTreeMap<String, Wanted>,
}

struct Wanted {
    spec: CalicoNodeStatusSpec,
    /// When it is due; never with a period of 0.
    due: Option<Instant>,
}

impl Work {
    fn run(&mut self, rows: &Receiver<Vec<Update>>) {
        loop {
            let next = self.objects.values().filter_map(|wanted| wanted.due).min();
            let wait = next.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
            match rows.recv_timeout(wait) {
                Ok(updates) => updates.into_iter().for_each(|update| self.on_update(update)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report_due(Instant::now());
        }
    }

    fn on_update(&mut self, update: Update) {
        let Key::Resource { name, .. } = &update.key else { return };
        let object = update.row.as_deref().and_then(|row| match row {
            Row::Resource(Resource::CalicoNodeStatus(object)) => Some(object),
            _ => None,
        });
        match object.filter(|object| object.spec.node == self.node) {
            None => drop(self.objects.remove(name)),
            // Our own reports come back; only a new wish is news.
            Some(object) if self.objects.get(name).is_some_and(|wanted| wanted.spec == object.spec) => {}
            Some(object) => {
                let due = (period(&object.spec) > 0).then(Instant::now);
                self.objects.insert(name.clone(), Wanted { spec: object.spec.clone(), due });
            }
        }
    }

    fn report_due(&mut self, now: Instant) {
        for (name, wanted) in &mut self.objects {
            if wanted.due.is_none_or(|due| due > now) {
                continue;
            }
            wanted.due = Some(now + Duration::from_secs(period(&wanted.spec).into()));
            let status = self.reporter.status(&wanted.spec.classes);
            let resources = Resources::new(&*self.store);
            let written = resources.modify(Kind::CalicoNodeStatus, None, name, |resource| {
                let mut resource = resource.clone();
                if let Resource::CalicoNodeStatus(object) = &mut resource {
                    object.status = Some(status.clone());
                }
                Ok::<_, ResourceError>(resource)
            });
            // One that has just been deleted needs no report.
            if let Err(error) = written.map(drop).or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })
            {
                tracing::warn!(object = name, %error, "the node's status cannot be written; it is tried again");
            }
        }
    }
}

fn period(spec: &CalicoNodeStatusSpec) -> u32 {
    spec.update_period_seconds.unwrap_or(DEFAULT_PERIOD)
}

#[cfg(test)]
mod tests {
    use api::{BGPDaemonState, CalicoNodeStatus, CalicoNodeStatusStatus, Metadata, NodeStatusClass};
    use datastore::Memory;

    use super::*;

    fn object(node: &str, period: Option<u32>) -> CalicoNodeStatus {
        let classes = vec![NodeStatusClass::Agent];
        let spec = CalicoNodeStatusSpec { node: node.to_owned(), classes, update_period_seconds: period };
        CalicoNodeStatus::new(Metadata::named("one"), spec)
    }

    fn work(stored: CalicoNodeStatus) -> Work {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        Resources::new(&*store).create(Resource::CalicoNodeStatus(Box::new(stored))).unwrap();
        Work { node: "node-1".into(), store, reporter: Reporter::new(None), objects: BTreeMap::new() }
    }

    impl Work {
        /// What the datastore says now, told as the syncer does.
        fn hear(&mut self) {
            let resource = Resources::new(&*self.store).get(Kind::CalicoNodeStatus, None, "one").unwrap();
            self.on_update(Update { key: resource.key(), row: Some(Arc::new(Row::Resource(resource))) });
        }

        fn stored(&self) -> Option<CalicoNodeStatusStatus> {
            match Resources::new(&*self.store).get(Kind::CalicoNodeStatus, None, "one").unwrap() {
                Resource::CalicoNodeStatus(object) => object.status,
                other => panic!("{other:?}"),
            }
        }

        fn due(&self) -> Option<Instant> {
            self.objects.get("one").and_then(|wanted| wanted.due)
        }
    }

    #[test]
    fn a_report_is_written_every_period_and_is_no_news_to_ourselves() {
        let mut work = work(object("node-1", Some(60)));
        work.hear();
        let now = Instant::now();
        work.report_due(now);
        let status = work.stored().expect("a report");
        assert!(status.last_updated.is_some());
        assert_eq!(status.agent.bird_v4.state, Some(BGPDaemonState::NotReady), "there is no BGP");
        assert_eq!(work.due(), Some(now + Duration::from_secs(60)));
        work.hear();
        assert_eq!(work.due(), Some(now + Duration::from_secs(60)), "our own report came back");
    }

    #[test]
    fn what_is_not_asked_of_us_is_not_reported() {
        for stored in [object("node-2", Some(60)), object("node-1", Some(0))] {
            let mut work = work(stored);
            work.hear();
            work.report_due(Instant::now());
            assert_eq!((work.stored(), work.due()), (None, None));
        }
    }

    #[test]
    fn an_object_that_is_gone_is_forgotten() {
        let mut work = work(object("node-1", None));
        work.hear();
        assert!(work.due().is_some());
        let key = Key::cluster(Kind::CalicoNodeStatus, "one");
        Resources::new(&*work.store).delete(Kind::CalicoNodeStatus, None, "one", None).unwrap();
        work.report_due(Instant::now());
        work.on_update(Update { key, row: None });
        assert_eq!(work.due(), None);
    }
}
