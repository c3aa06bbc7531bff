//! What the reconciler needs of the kernel: read one table, commit one transaction. The real one is
//! [`NftSocket`](super::NftSocket), the strict one in memory is [`Fake`](super::Fake).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::decode::Count;
use super::encode::SetSchema;
use super::error::NftError;
use super::expression::RuleBody;
use super::family::{BaseChain, TableId};
use super::rule::Rule;
use super::set::Element;
use super::statement::Verdict;

/// A rule with what it compiles to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledRule {
    /// What was asked for.
    pub rule: Rule,
    /// What the kernel keeps for it.
    pub body: RuleBody,
}

/// One change of a table. A transaction runs its operations in order; each sees the effect of those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Makes the table if it does not exist, and wakes it if it is dormant.
    AddTable,
    /// Removes the table and all in it.
    DeleteTable,
    /// Makes a chain; or changes the policy of a base chain that exists.
    AddChain {
        /// Its name.
        name: Arc<str>,
        /// What makes it a base chain.
        base: Option<BaseChain>,
    },
    /// Removes a chain and its rules. Nothing may lead to it any more.
    DeleteChain {
        /// Its name.
        name: Arc<str>,
    },
    /// Removes all rules of a chain.
    FlushChain {
        /// Its name.
        name: Arc<str>,
    },
    /// Makes a rule.
    AddRule {
        /// The chain.
        chain: Arc<str>,
        /// The handle of the rule that it goes in front of; none for the end of the chain.
        before: Option<u64>,
        /// The rule.
        rule: Arc<CompiledRule>,
    },
    /// Removes a rule.
    DeleteRule {
        /// The chain.
        chain: Arc<str>,
        /// The rule's handle.
        handle: u64,
    },
    /// Makes a set or map.
    AddSet {
        /// Its name.
        name: Arc<str>,
        /// Its kind.
        schema: SetSchema,
    },
    /// Removes a set or map. No rule may use it any more.
    DeleteSet {
        /// Its name.
        name: Arc<str>,
    },
    /// Removes all elements of a set or map.
    FlushSet {
        /// Its name.
        name: Arc<str>,
    },
    /// Adds elements that are not there.
    AddElements {
        /// The set.
        set: Arc<str>,
        /// Its kind.
        schema: SetSchema,
        /// The elements, each with its verdict in a map.
        elements: Vec<(Element, Option<Verdict>)>,
    },
    /// Removes elements that are there.
    DeleteElements {
        /// The set.
        set: Arc<str>,
        /// Its kind.
        schema: SetSchema,
        /// The elements.
        elements: Vec<Element>,
    },
}

impl Operation {
    /// The operation as a command of nft (elements only counted).
    pub fn describe(&self, table: &TableId) -> String {
        let TableId { family, name: table } = table;
        let at = |verb: &str, name: &dyn fmt::Display| format!("{verb} {family} {table} {name}");
        match self {
            Operation::AddTable => format!("add table {family} {table}"),
            Operation::DeleteTable => format!("delete table {family} {table}"),
            Operation::AddChain { name, base: None } => at("add chain", name),
            Operation::AddChain { name, base: Some(base) } => {
                at("add chain", &format!("{name} {{ {base} }}"))
            }
            Operation::DeleteChain { name } => at("delete chain", name),
            Operation::FlushChain { name } => at("flush chain", name),
            Operation::AddRule { chain, rule, .. } => at("add rule", &format!("{chain} {}", rule.rule)),
            Operation::DeleteRule { chain, handle } => at("delete rule", &format!("{chain} handle {handle}")),
            Operation::AddSet { name, schema } => at("add set", &format!("{name} {{ {} }}", schema.kind)),
            Operation::DeleteSet { name } => at("delete set", name),
            Operation::FlushSet { name } => at("flush set", name),
            Operation::AddElements { set, elements, .. } => {
                at("add element", &format!("{set} ({} elements)", elements.len()))
            }
            Operation::DeleteElements { set, elements, .. } => {
                at("delete element", &format!("{set} ({} elements)", elements.len()))
            }
        }
    }
}

/// A table as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableState {
    /// Switched off by hand: its chains are not called.
    pub dormant: bool,
    /// The chains by name.
    pub chains: BTreeMap<String, ChainState>,
    /// The named sets and maps by name.
    pub sets: BTreeMap<String, SetState>,
}

/// A chain as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// How it is called.
    pub base: ChainBase,
    /// The rules in order.
    pub rules: Vec<RuleState>,
}

/// How a chain that exists is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainBase {
    /// Only by jumps.
    Regular,
    /// By the kernel.
    Base(BaseChain),
    /// By the kernel in a way that we never use (ingress, a device).
    Other,
}

/// A rule as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleState {
    /// The number by which the kernel knows it, never used twice in a table's life.
    pub handle: u64,
    /// What it does.
    pub body: RuleBody,
}

/// A set or map as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetState {
    /// Its kind; none when we never make such sets.
    pub schema: Option<SetSchema>,
    /// The elements.
    pub elements: BTreeMap<Element, Option<Verdict>>,
    /// Some elements are not of a form that we write: the set has to be emptied and filled again.
    pub irregular: bool,
}

/// A rule's counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleCount {
    /// The chain.
    pub chain: String,
    /// The rule's handle.
    pub handle: u64,
    /// The rule's comment.
    pub comment: Option<String>,
    /// What its first counter says.
    pub count: Count,
}

/// What a committed transaction left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// The generation of the ruleset that this transaction made.
    pub generation: u32,
    /// The handles of the rules that were added, in order; none when they could not be told and must be read back.
    pub handles: Option<Vec<u64>>,
}

/// The kernel, as far as one network namespace's nf_tables is concerned.
pub trait Transport {
    /// The generation of the ruleset: it changes with every transaction of anyone.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn generation(&mut self) -> Result<u32, NftError>;

    /// Whether anyone but this transport may have changed `table` in the generations after `since` up to `until`.
    /// True when that cannot be told.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn touched(&mut self, table: &TableId, since: u32, until: u32) -> Result<bool, NftError>;

    /// Reads the table, all of one generation. None when it does not exist.
    ///
    /// # Errors
    /// [`NftError::Raced`] when others keep changing the ruleset.
    fn read(&mut self, table: &TableId) -> Result<(u32, Option<TableState>), NftError>;

    /// Reads the counters of the rules of the table, in no particular order of chains.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn counters(&mut self, table: &TableId) -> Result<Vec<RuleCount>, NftError>;

    /// Does all of the operations, or none, provided that the ruleset is still of `generation`.
    ///
    /// # Errors
    /// [`NftError::Raced`] when it is not, [`NftError::Refused`] when the kernel objects; [`NftError::Io`] may leave it
    /// open whether the transaction was done.
    fn commit(
        &mut self,
        table: &TableId,
        generation: u32,
        operations: &[Operation],
    ) -> Result<Committed, NftError>;
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn generation(&mut self) -> Result<u32, NftError> {
        (**self).generation()
    }

    fn touched(&mut self, table: &TableId, since: u32, until: u32) -> Result<bool, NftError> {
        (**self).touched(table, since, until)
    }

    fn read(&mut self, table: &TableId) -> Result<(u32, Option<TableState>), NftError> {
        (**self).read(table)
    }

    fn counters(&mut self, table: &TableId) -> Result<Vec<RuleCount>, NftError> {
        (**self).counters(table)
    }

    fn commit(
        &mut self,
        table: &TableId,
        generation: u32,
        operations: &[Operation],
    ) -> Result<Committed, NftError> {
        (**self).commit(table, generation, operations)
    }
}
