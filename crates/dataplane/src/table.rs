//! The desired content of one nf_tables table, in memory, and the table that keeps it in the kernel.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kernel::nft::{
    BaseChain, Family, InvalidRule, Member, NftError, NftTable, Refusal, Rule, RuleCount, SetKind, Transport,
    Verdict,
};
use kernel::ownership;

use crate::backend::is_without_nf_tables;

/// The desired content of a table. Everything is idempotent: setting what is set, and removing what is not there, change nothing.
pub(crate) trait DesiredTable {
    /// The chain has exactly these rules.
    fn set_chain(&mut self, name: &str, base: Option<BaseChain>, rules: Vec<Rule>);
    /// There is no such chain.
    fn remove_chain(&mut self, name: &str);
    /// The set has exactly these members.
    fn set_set(&mut self, name: &str, kind: SetKind, members: Vec<Member>);
    /// The set, which is there, loses and gains these members.
    fn change_set(&mut self, name: &str, removed: Vec<Member>, added: Vec<Member>);
    /// There is no such set or map.
    fn remove_set(&mut self, name: &str);
    /// There is such a verdict map of interface names, with exactly these entries.
    fn set_map(&mut self, name: &str, entries: BTreeMap<Member, Verdict>);
    /// The map, which is there, leads an interface to a verdict.
    fn set_map_entry(&mut self, name: &str, key: Member, verdict: Verdict);
    /// The map has no such key.
    fn remove_map_entry(&mut self, name: &str, key: &Member);
}

/// How long after a refusal the refused is tried again.
const RETRY_REFUSED: Duration = Duration::from_secs(10);

/// The kernel's table, and what of it cannot be expressed.
#[derive(Debug)]
pub(crate) struct Table<T> {
    nft: NftTable<T>,
    /// By chain or set.
    invalid: BTreeMap<String, InvalidRule>,
    refused: Vec<Refusal>,
    retry_refused: Option<Instant>,
    resync: bool,
    /// Whether someone else has changed the table is asked at the next apply, though nothing is to be written.
    look: bool,
}

impl<T: Transport> Table<T> {
    pub(crate) fn new(family: Family, transport: T) -> Self {
        Self {
            nft: NftTable::new(transport, family, ownership::NFT_TABLE),
            invalid: BTreeMap::new(),
            refused: Vec::new(),
            retry_refused: None,
            resync: false,
            look: true,
        }
    }

    /// The next apply asks the kernel whether someone else has changed the table, and repairs it.
    pub(crate) fn look_again(&mut self) {
        self.look = true;
    }

    /// The next apply reads the table back, whatever the kernel says of changes.
    pub(crate) fn queue_resync(&mut self) {
        self.resync = true;
    }

    /// Commits what differs; without news it makes no system call. Single objects that the kernel refuses are faults, not an error.
    pub(crate) fn apply(&mut self, now: Instant) -> Result<(), NftError> {
        if std::mem::take(&mut self.resync) {
            self.nft.resync().inspect_err(|_| self.resync = true)?;
        }
        if self.retry_refused.is_some_and(|at| at <= now) {
            self.nft.retry_refused();
            self.retry_refused = None;
        }
        if !std::mem::take(&mut self.look) && self.nft.is_settled() {
            return Ok(());
        }
        self.refused = self.nft.apply().inspect_err(|_| self.look = true)?.refused;
        if self.refused.is_empty() {
            self.retry_refused = None;
        } else {
            self.retry_refused.get_or_insert(now + RETRY_REFUSED);
        }
        Ok(())
    }

    /// When to apply again though nothing changes.
    pub(crate) fn next_apply(&self) -> Option<Instant> {
        self.retry_refused
    }

    /// Chains and sets that are closed because they cannot be programmed.
    pub(crate) fn faults(&self) -> impl Iterator<Item = String> + '_ {
        let invalid = self.invalid.iter().map(|(name, error)| format!("{name}: {error}"));
        let refused = self.refused.iter().map(ToString::to_string);
        invalid.chain(refused)
    }

    /// Takes the table out of the kernel; nothing is wanted in it any more. A kernel without nf_tables has none.
    pub(crate) fn remove(&mut self) -> Result<(), NftError> {
        match self.nft.remove() {
            Err(error) if is_without_nf_tables(&error) => {}
            other => other?,
        }
        self.invalid.clear();
        self.refused.clear();
        self.retry_refused = None;
        Ok(())
    }

    /// The table's family.
    pub(crate) fn family(&self) -> Family {
        self.nft.id().family
    }

    /// Reads the counters back.
    pub(crate) fn counters(&mut self) -> Result<Vec<RuleCount>, NftError> {
        self.nft.counters()
    }

    /// What cannot be expressed is remembered until it is set anew.
    fn note(&mut self, name: &str, outcome: Result<(), InvalidRule>) -> bool {
        match outcome {
            Ok(()) => {
                self.invalid.remove(name);
                true
            }
            Err(error) => {
                tracing::error!(object = name, %error, "cannot be expressed in nf_tables");
                self.invalid.insert(name.to_owned(), error);
                false
            }
        }
    }
}

impl<T: Transport> DesiredTable for Table<T> {
    fn set_chain(&mut self, name: &str, base: Option<BaseChain>, rules: Vec<Rule>) {
        let outcome = match base {
            None => self.nft.set_chain(name, rules),
            Some(base) => self.nft.set_base_chain(name, base, rules),
        };
        if !self.note(name, outcome) && base.is_none() {
            // Whatever it was to decide, it is dropped.
            let closed = vec![Rule::always(Verdict::Drop).comment("closed: a rule cannot be expressed")];
            let outcome = self.nft.set_chain(name, closed);
            debug_assert!(outcome.is_ok(), "{outcome:?}");
        }
    }

    fn remove_chain(&mut self, name: &str) {
        self.invalid.remove(name);
        self.nft.remove_chain(name);
    }

    fn set_set(&mut self, name: &str, kind: SetKind, members: Vec<Member>) {
        let outcome = self.nft.set_set(name, kind, members);
        self.note(name, outcome);
    }

    fn change_set(&mut self, name: &str, removed: Vec<Member>, added: Vec<Member>) {
        let outcome = self.nft.remove_members(name, removed).and_then(|()| self.nft.add_members(name, added));
        self.note(name, outcome);
    }

    fn remove_set(&mut self, name: &str) {
        self.invalid.remove(name);
        self.nft.remove_set(name);
    }

    fn set_map(&mut self, name: &str, entries: BTreeMap<Member, Verdict>) {
        let outcome = self.nft.set_map(name, interfaces(), entries);
        self.note(name, outcome);
    }

    fn set_map_entry(&mut self, name: &str, key: Member, verdict: Verdict) {
        let outcome = self.nft.set_entry(name, key, verdict);
        self.note(name, outcome);
    }

    fn remove_map_entry(&mut self, name: &str, key: &Member) {
        // A map that is not there has no such key.
        let _ = self.nft.remove_entry(name, key.clone());
    }
}

fn interfaces() -> SetKind {
    SetKind::hash([kernel::nft::DataType::IfName])
}
