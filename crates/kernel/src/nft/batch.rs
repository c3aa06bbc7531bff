//! A transaction as one buffer of messages.
//!
//! ```text
//! BATCH_BEGIN (generation) | message | message … | BATCH_END
//! ```
//!
//! The kernel does all or nothing. It answers every message that it refuses with an error that carries the message's
//! sequence number; only the last message asks to be acknowledged. The generation in the first message makes the
//! kernel refuse the whole (`ERESTART`) when someone else committed since.
//!
//! # Handles
//! A rule's handle is needed later to delete it or to insert before it. Asking for an echo of every rule would double
//! the cost of a load, and reading back costs more still. But the kernel numbers all that a transaction makes in a
//! table (chains, rules, sets) consecutively from one counter, under a lock. So only the first and the last new rule
//! are echoed; when their distance is the number of things made between them, the handles of all others are known.

use super::encode::{self, SetSchema, set_flag};
use super::expression::RuleBody;
use super::family::{BaseChain, ChainType, Family, TableId};
use super::set::Element;
use super::statement::Verdict;
use super::transport::{CompiledRule, Operation};
use super::wire::{BATCH_BEGIN, BATCH_END, BODY, SUBSYSTEM, Writer, flag, kind};

/// Bytes of elements in one message; the list's length has sixteen bits.
const ELEMENT_BYTES: usize = 60_000;

/// What was encoded, and how to read the answers.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) writer: Writer,
    /// The first sequence number; message `n` has `first + n`.
    pub(crate) first: u32,
    /// The operation that each message belongs to; none for the markers.
    pub(crate) operation_of: Vec<Option<usize>>,
    /// The message whose acknowledgement ends the answers.
    pub(crate) last: u32,
    /// For each rule: the sequence number of its message, and how many things were numbered before it.
    pub(crate) rules: Vec<(u32, u64)>,
    /// How many things the transaction makes the kernel number.
    numbered: u64,
    next_set: u32,
}

struct Flags {
    add: u16,
    /// The message to be acknowledged, and the rules to be echoed, are only known at the end: their flags are set then.
    start_of: Vec<usize>,
}

impl Batch {
    /// Encodes the operations for `table`.
    pub(crate) fn encode(table: &TableId, generation: u32, first: u32, operations: &[Operation]) -> Self {
        let mut batch = Batch { first, next_set: 1, ..Batch::default() };
        let mut flags = Flags { add: flag::CREATE, start_of: Vec::new() };
        batch.marker(BATCH_BEGIN, Some(generation), &mut flags);
        for (index, operation) in operations.iter().enumerate() {
            batch.operation(table, index, operation, &mut flags);
        }
        batch.finish(&mut flags);
        batch
    }

    /// Makes the transaction one for another generation.
    pub(crate) fn set_generation(&mut self, generation: u32) {
        // The first message is the begin marker, and the generation its only attribute.
        const AT: usize = BODY + 4;
        self.writer.bytes[AT..AT + 4].copy_from_slice(&generation.to_be_bytes());
    }

    fn sequence(&self) -> u32 {
        self.first.wrapping_add(self.operation_of.len() as u32)
    }

    fn marker(&mut self, marker: u16, generation: Option<u32>, flags: &mut Flags) {
        const GENERATION: u16 = 1;
        let sequence = self.sequence();
        flags.start_of.push(self.writer.bytes.len());
        self.operation_of.push(None);
        self.writer.raw_message(marker, 0, sequence, 0, SUBSYSTEM, |out| {
            if let Some(generation) = generation {
                out.u32(GENERATION, generation);
            }
        });
    }

    fn finish(&mut self, flags: &mut Flags) {
        self.last = self.sequence().wrapping_sub(1);
        self.add_flag(self.last, flag::ACK, flags);
        let echoed = [self.rules.first().copied(), self.rules.last().copied()];
        for (sequence, _) in echoed.into_iter().flatten() {
            self.add_flag(sequence, flag::ECHO, flags);
        }
        self.marker(BATCH_END, None, flags);
    }

    fn add_flag(&mut self, sequence: u32, flag: u16, flags: &Flags) {
        let start = flags.start_of[sequence.wrapping_sub(self.first) as usize] + 6;
        let bytes = &mut self.writer.bytes[start..start + 2];
        let flags = u16::from_ne_bytes([bytes[0], bytes[1]]) | flag;
        bytes.copy_from_slice(&flags.to_ne_bytes());
    }

    /// Appends one message; `fill` writes what follows the table's name.
    fn message(
        &mut self,
        (table, index): (&TableId, usize),
        kind: u16,
        message_flags: u16,
        flags: &mut Flags,
        fill: impl FnOnce(&mut Writer),
    ) {
        const TABLE: u16 = 1;
        let sequence = self.sequence();
        flags.start_of.push(self.writer.bytes.len());
        self.operation_of.push(Some(index));
        self.writer.message(kind, message_flags, sequence, table.family.number(), |out| {
            out.string(TABLE, &table.name);
            fill(out);
        });
    }

    fn operation(&mut self, table: &TableId, index: usize, operation: &Operation, flags: &mut Flags) {
        const NAME: u16 = 2;
        const CHAIN_NAME: u16 = 3;
        let at = (table, index);
        match operation {
            Operation::AddTable => self.message(at, kind::NEWTABLE, flags.add, flags, |out| out.u32(2, 0)),
            Operation::DeleteTable => self.message(at, kind::DELTABLE, 0, flags, |_| {}),
            Operation::AddChain { name, base } => {
                self.numbered += 1;
                self.message(at, kind::NEWCHAIN, flags.add, flags, |out| {
                    out.string(CHAIN_NAME, name);
                    base.iter().for_each(|base| base_chain(out, table.family, base));
                });
            }
            Operation::DeleteChain { name } => {
                self.message(at, kind::DELCHAIN, 0, flags, |out| out.string(CHAIN_NAME, name));
            }
            Operation::FlushChain { name } => {
                self.message(at, kind::DELRULE, 0, flags, |out| out.string(2, name));
            }
            Operation::AddRule { chain, before, rule } => self.rule(at, chain, *before, rule, flags),
            Operation::DeleteRule { chain, handle } => {
                self.message(at, kind::DELRULE, 0, flags, |out| {
                    out.string(2, chain);
                    out.u64(3, *handle);
                });
            }
            Operation::AddSet { name, schema } => {
                self.numbered += 1;
                self.set(at, name, schema, 0, flags);
            }
            Operation::DeleteSet { name } => {
                self.message(at, kind::DELSET, 0, flags, |out| out.string(NAME, name));
            }
            Operation::FlushSet { name } => {
                self.message(at, kind::DELSETELEM, 0, flags, |out| out.string(NAME, name));
            }
            Operation::AddElements { set, schema, elements } => {
                let entries = elements.iter().map(|(element, verdict)| (element, verdict.as_ref()));
                self.elements(at, (kind::NEWSETELEM, flags.add), (set, None), schema, entries, flags);
            }
            Operation::DeleteElements { set, schema, elements } => {
                let entries = elements.iter().map(|element| (element, None));
                self.elements(at, (kind::DELSETELEM, 0), (set, None), schema, entries, flags);
            }
        }
    }

    fn set(
        &mut self,
        at: (&TableId, usize),
        name: &str,
        schema: &SetSchema,
        extra: u32,
        flags: &mut Flags,
    ) -> u32 {
        let id = self.next_set;
        self.next_set += 1;
        self.message(at, kind::NEWSET, flags.add, flags, |out| {
            out.string(2, name);
            encode::set(out, schema, extra, id);
        });
        id
    }

    fn rule(
        &mut self,
        at: (&TableId, usize),
        chain: &str,
        before: Option<u64>,
        rule: &CompiledRule,
        flags: &mut Flags,
    ) {
        let first_set = self.anonymous_sets(at, &rule.body, flags);
        self.rules.push((self.sequence(), self.numbered));
        self.numbered += 1;
        let append = if before.is_none() { flag::APPEND } else { 0 };
        self.message(at, kind::NEWRULE, flags.add | append, flags, |out| {
            out.string(2, chain);
            encode::expressions(out, 4, &rule.body.expressions, first_set);
            if let Some(handle) = before {
                out.u64(6, handle);
            }
            if !rule.body.userdata.is_empty() {
                out.bytes(7, &rule.body.userdata);
            }
        });
    }

    /// Makes the sets that belong to a rule; gives the id of the first.
    fn anonymous_sets(&mut self, at: (&TableId, usize), body: &RuleBody, flags: &mut Flags) -> u32 {
        let first = self.next_set;
        for set in body.anonymous_sets() {
            self.numbered += 1;
            let schema = SetSchema { kind: set.kind.clone(), map: false };
            let fixed = set_flag::ANONYMOUS | set_flag::CONSTANT;
            let id = self.set(at, encode::ANONYMOUS, &schema, fixed, flags);
            let entries = set.elements.iter().map(|element| (element, None));
            let name = (encode::ANONYMOUS, Some(id));
            self.elements(at, (kind::NEWSETELEM, flags.add), name, &schema, entries, flags);
        }
        first
    }

    fn elements<'a>(
        &mut self,
        at: (&TableId, usize),
        (message, message_flags): (u16, u16),
        (set, id): (&str, Option<u32>),
        schema: &SetSchema,
        entries: impl Iterator<Item = (&'a Element, Option<&'a Verdict>)>,
        flags: &mut Flags,
    ) {
        let mut entries = entries.peekable();
        while entries.peek().is_some() {
            self.message(at, message, message_flags, flags, |out| {
                out.string(2, set);
                if let Some(id) = id {
                    out.u32(4, id);
                }
                let limit = out.bytes.len() + ELEMENT_BYTES;
                out.nested(3, |out| {
                    while out.bytes.len() < limit
                        && let Some((element, verdict)) = entries.next()
                    {
                        encode::element(out, &schema.kind, element, verdict);
                    }
                });
            });
        }
    }
}

fn base_chain(out: &mut Writer, family: Family, base: &BaseChain) {
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    out.nested(HOOK, |out| {
        // One that the family lacks is not let into a table; the kernel would refuse the number.
        out.u32(1, base.hook.number(family).unwrap_or(u32::MAX));
        out.u32(2, base.priority.cast_unsigned());
    });
    out.u32(POLICY, policy_number(base));
    out.string(TYPE, chain_type(base.kind));
}

fn policy_number(base: &BaseChain) -> u32 {
    match base.policy {
        super::family::Policy::Drop => 0,
        super::family::Policy::Accept => 1,
    }
}

fn chain_type(kind: ChainType) -> &'static str {
    kind.name()
}
