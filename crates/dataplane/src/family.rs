//! One family: its managers over its backend.

use calc::contract::{Change, IpVersion};

use crate::model::Model;
use crate::rules::FamilyRules;

/// The managers of a family and the backend that they write to.
#[derive(Debug)]
pub(crate) struct Family<B> {
    pub(crate) rules: FamilyRules,
    pub(crate) backend: B,
    version: IpVersion,
}

impl<B: crate::backend::RuleSink> Family<B> {
    pub(crate) fn new(version: IpVersion, backend: B) -> Self {
        Self { rules: FamilyRules::new(version), backend, version }
    }

    pub(crate) fn version(&self) -> IpVersion {
        self.version
    }

    /// Takes in a change of an IP set.
    pub(crate) fn on_ip_set(&mut self, change: &Change, model: &Model) {
        match change {
            Change::IpSetUpdate { id, kind, members } => {
                self.rules.set_ip_set(id, *kind, members, model, &mut self.backend);
            }
            Change::IpSetDelta { id, added, removed } => {
                self.rules.change_ip_set(id, removed, added, model, &mut self.backend);
            }
            Change::IpSetRemove { id } => self.rules.remove_ip_set(id, &mut self.backend),
            _ => {}
        }
    }
}
