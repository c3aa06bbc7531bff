//! One family: its managers over its table.

use calc::contract::{Change, IpVersion};

use crate::model::Model;
use crate::rules::FamilyRules;

/// The managers of a family and the table that they write to.
#[derive(Debug)]
pub(crate) struct Family<T> {
    pub(crate) rules: FamilyRules,
    pub(crate) table: T,
    version: IpVersion,
}

impl<T: crate::table::DesiredTable> Family<T> {
    pub(crate) fn new(version: IpVersion, table: T) -> Self {
        Self { rules: FamilyRules::new(version), table, version }
    }

    pub(crate) fn version(&self) -> IpVersion {
        self.version
    }

    /// Takes in a change of an IP set.
    pub(crate) fn on_ip_set(&mut self, change: &Change, model: &Model) {
        match change {
            Change::IpSetUpdate { id, kind, members } => {
                self.rules.set_ip_set(id, *kind, members, model, &mut self.table);
            }
            Change::IpSetDelta { id, added, removed } => {
                self.rules.change_ip_set(id, removed, added, model, &mut self.table);
            }
            Change::IpSetRemove { id } => self.rules.remove_ip_set(id, &mut self.table),
            _ => {}
        }
    }
}
