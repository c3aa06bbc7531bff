//! What the watcher of flows asks of the thread that knows the rules.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;

use api::{Key, Kind, Resource, Row};
use calc::contract::{PolicyId, PolicyKind};
use dataplane::RealDataplane;
use dataplane::judge::Sight;

use crate::flows::Said;

/// A question of the watcher.
#[derive(Debug)]
pub(crate) enum FlowEvent {
    /// Which rules have decided about these packets?
    Judge(Vec<Sight>, Sender<Said>),
    /// How many packets have rules denied?
    CountDenied(Sender<Said>),
    /// Whether somebody follows what is allowed.
    Want(bool),
}

/// What there is to know for them.
#[derive(Debug, Default)]
pub(super) struct FlowWatch {
    wanted: bool,
    /// The staged policies that count.
    drafts: BTreeSet<PolicyId>,
    /// The enforced policies that those are to replace or delete.
    replaced: BTreeSet<PolicyId>,
}

impl FlowWatch {
    pub(super) fn on_event(&mut self, event: FlowEvent, dataplane: &mut RealDataplane) {
        // Nobody may listen to the answer any more.
        match event {
            FlowEvent::Judge(sights, answer) => {
                let _ = answer.send(Said::Judged(dataplane.judge(&sights, &self.replaced)));
            }
            FlowEvent::CountDenied(answer) => {
                let packets = dataplane.denied_packets().inspect_err(|error| {
                    tracing::warn!(%error, "the counters of rules cannot be read");
                });
                let _ = answer.send(Said::Denied(packets.ok()));
            }
            FlowEvent::Want(wanted) => self.wanted = wanted,
        }
    }

    /// A row is now this.
    pub(super) fn on_row(&mut self, key: &Key, row: Option<&Row>) {
        let Some(id) = staged_policy(key) else { return };
        let is_news = match row {
            Some(Row::Resource(resource)) if counts(resource) => self.drafts.insert(id),
            _ => self.drafts.remove(&id),
        };
        if is_news {
            self.replaced = self.drafts.iter().flat_map(PolicyId::stands_for).collect();
        }
    }

    /// Tells the dataplane whether what is allowed is to be logged: somebody follows it, or staged policies have a say about it.
    pub(super) fn tell(&self, dataplane: &mut RealDataplane) {
        dataplane.want_flows(self.wanted || dataplane.has_drafts(&self.replaced));
    }
}

fn staged_policy(key: &Key) -> Option<PolicyId> {
    let Key::Resource { kind, namespace, name } = key else { return None };
    let kind = match kind {
        Kind::StagedNetworkPolicy => PolicyKind::StagedNetworkPolicy,
        Kind::StagedGlobalNetworkPolicy => PolicyKind::StagedGlobalNetworkPolicy,
        Kind::StagedKubernetesNetworkPolicy => PolicyKind::StagedKubernetesNetworkPolicy,
        _ => return None,
    };
    Some(PolicyId { kind, namespace: namespace.as_deref().map(Into::into), name: name.as_str().into() })
}

/// Whether it is to be set or deleted; `Learn` and `Ignore` of old are neither.
fn counts(resource: &Resource) -> bool {
    use api::StagedAction::{Delete, Set};
    let action = match resource {
        Resource::StagedNetworkPolicy(policy) => policy.spec.staged_action,
        Resource::StagedGlobalNetworkPolicy(policy) => policy.spec.staged_action,
        Resource::StagedKubernetesNetworkPolicy(policy) => policy.spec.staged_action,
        _ => return false,
    };
    matches!(action.unwrap_or_default(), Set | Delete)
}
