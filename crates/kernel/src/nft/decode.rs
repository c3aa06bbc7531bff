//! Expressions, sets and elements from netlink attributes. Total: what cannot be read becomes
//! [`Expression::Unknown`] or nothing, and so differs from what is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bytes::Bytes;
use super::encode::{DATA_VERDICT, INTERVAL_END, SetSchema, set_flag};
use super::expression::{AnonymousSet, Expression, NatRegisters, Register, SetRef};
use super::set::{Element, SetKind};
use super::statement::Verdict;
use super::wire::{Attribute, attributes, be32, be64, text};

/// The rules' own sets by the names that the kernel gave them.
pub(crate) type AnonymousSets = BTreeMap<String, Arc<AnonymousSet>>;

/// Attributes by kind; the last of a kind counts, as in the kernel.
struct Table<'a>(Vec<Attribute<'a>>);

impl<'a> Table<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self(attributes(bytes).collect())
    }

    fn get(&self, kind: u16) -> Option<&Attribute<'a>> {
        self.0.iter().rev().find(|attribute| attribute.kind == kind)
    }

    fn u32(&self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(be32)
    }

    fn u64(&self, kind: u16) -> Option<u64> {
        self.get(kind).and_then(be64)
    }

    fn u16(&self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(kind)?.value.try_into().ok()?))
    }

    fn register(&self, kind: u16) -> Option<Register> {
        Register::from_number(self.u32(kind)?)
    }

    /// A register pair; a missing second one means the first again.
    fn registers(&self, kind: u16) -> Option<Option<(Register, Register)>> {
        if self.get(kind).is_none() {
            return Some(None);
        }
        let low = self.register(kind)?;
        let high = if self.get(kind + 1).is_some() { self.register(kind + 1)? } else { low };
        Some(Some((low, high)))
    }

    fn value(&self, kind: u16) -> Option<Bytes> {
        let data = Table::new(self.get(kind)?.value);
        data.get(1).map(|attribute| Bytes::from(attribute.value))
    }

    fn verdict(&self, kind: u16) -> Option<Verdict> {
        let data = Table::new(self.get(kind)?.value);
        let verdict = Table::new(data.get(2)?.value);
        let chain = || verdict.get(2).and_then(text).map(Arc::from);
        match verdict.u32(1)?.cast_signed() {
            0 => Some(Verdict::Drop),
            1 => Some(Verdict::Accept),
            -1 => Some(Verdict::Continue),
            -3 => chain().map(Verdict::Jump),
            -4 => chain().map(Verdict::Goto),
            -5 => Some(Verdict::Return),
            _ => None,
        }
    }

    /// Whether all attributes are of these kinds (and padding): an attribute that we do not know changes the meaning.
    fn only(&self, kinds: &[u16]) -> Option<()> {
        self.0.iter().all(|attribute| kinds.contains(&attribute.kind)).then_some(())
    }
}

/// What a counter of a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

/// Reads a list of expressions, and the first counter among them.
pub(crate) fn expressions(list: &[u8], sets: &AnonymousSets) -> (Vec<Expression>, Option<Count>) {
    let mut counter = None;
    let mut read = |entry: Attribute<'_>| {
        let table = Table::new(entry.value);
        let name = table.get(1).and_then(text).unwrap_or_default();
        let data = table.get(2).map(|attribute| attribute.value).unwrap_or_default();
        if name == "counter" && counter.is_none() {
            counter = count(&Table::new(data));
        }
        expression(name, data, sets)
            .unwrap_or_else(|| Expression::Unknown { name: name.into(), data: data.to_vec() })
    };
    let expressions = attributes(list).map(&mut read).collect();
    (expressions, counter)
}

fn count(table: &Table<'_>) -> Option<Count> {
    Some(Count { bytes: table.u64(1)?, packets: table.u64(2)? })
}

fn expression(name: &str, data: &[u8], sets: &AnonymousSets) -> Option<Expression> {
    let table = Table::new(data);
    match name {
        "meta" => meta(&table),
        "payload" => payload(&table),
        "ct" => {
            table.only(&[1, 2])?;
            Some(Expression::Ct { dreg: table.register(1)?, key: table.u32(2)? })
        }
        "fib" => {
            table.only(&[1, 2, 3])?;
            Some(Expression::Fib { dreg: table.register(1)?, result: table.u32(2)?, flags: table.u32(3)? })
        }
        "bitwise" => bitwise(&table),
        "byteorder" => byteorder(&table),
        "cmp" => {
            let (sreg, operator) = (table.register(1)?, table.u32(2)?);
            Some(Expression::Compare { sreg, operator, value: table.value(3)? })
        }
        "range" => range(&table),
        "lookup" => lookup(&table, sets),
        "immediate" => immediate(&table),
        "counter" => count(&table).map(|_| Expression::Counter),
        "limit" => limit(&table),
        "connlimit" => {
            Some(Expression::ConnectionLimit { count: table.u32(1)?, over: flag(table.u32(2).unwrap_or(0))? })
        }
        "log" => log(&table),
        "reject" => reject(&table),
        "masq" => {
            let flags = table.u32(1).unwrap_or(0) & !DERIVED_NAT_FLAGS;
            Some(Expression::Masquerade { flags, ports: table.registers(2)? })
        }
        "nat" => nat(&table),
        "notrack" => Some(Expression::Notrack),
        _ => None,
    }
}

/// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`: the kernel sets them from the registers.
const DERIVED_NAT_FLAGS: u32 = 3;

fn flag(number: u32) -> Option<bool> {
    match number {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn meta(table: &Table<'_>) -> Option<Expression> {
    let key = table.u32(2)?;
    match (table.get(1), table.get(3)) {
        (Some(_), None) => Some(Expression::Meta { key, dreg: table.register(1)? }),
        (None, Some(_)) => Some(Expression::MetaSet { key, sreg: table.register(3)? }),
        _ => None,
    }
}

fn payload(table: &Table<'_>) -> Option<Expression> {
    let (base, offset, len) = (table.u32(2)?, table.u32(3)?, table.u32(4)?);
    if table.get(5).is_some() {
        return payload_set(table, base, offset, len);
    }
    table.only(&[1, 2, 3, 4])?;
    Some(Expression::Payload { base, offset, len, dreg: table.register(1)? })
}

fn payload_set(table: &Table<'_>, base: u32, offset: u32, len: u32) -> Option<Expression> {
    table.only(&[2, 3, 4, 5, 6, 7, 8])?;
    let place = table.u32(7).unwrap_or(0);
    let checksum = match (table.u32(6).unwrap_or(0), place, table.u32(8).unwrap_or(0)) {
        (0, 0, 0) => None,
        (1, place, 0) => Some(place),
        _ => return None,
    };
    Some(Expression::PayloadSet { sreg: table.register(5)?, base, offset, len, checksum })
}

fn bitwise(table: &Table<'_>) -> Option<Expression> {
    const MASK_XOR: u32 = 0;
    table.only(&[1, 2, 3, 4, 5, 6])?;
    if table.u32(6).unwrap_or(MASK_XOR) != MASK_XOR {
        return None;
    }
    let (mask, xor) = (table.value(4)?, table.value(5)?);
    Some(Expression::Bitwise { sreg: table.register(1)?, dreg: table.register(2)?, mask, xor })
}

fn byteorder(table: &Table<'_>) -> Option<Expression> {
    let (sreg, dreg) = (table.register(1)?, table.register(2)?);
    let (to_network, len, size) = (flag(table.u32(3)?)?, table.u32(4)?, table.u32(5)?);
    Some(Expression::Byteorder { sreg, dreg, to_network, len, size })
}

fn range(table: &Table<'_>) -> Option<Expression> {
    let (sreg, inverted) = (table.register(1)?, flag(table.u32(2)?)?);
    Some(Expression::Range { sreg, inverted, from: table.value(3)?, to: table.value(4)? })
}

fn lookup(table: &Table<'_>, sets: &AnonymousSets) -> Option<Expression> {
    let name = text(table.get(1)?)?;
    let set = match sets.get(name) {
        Some(set) => SetRef::Anonymous(set.clone()),
        None => SetRef::Named(name.into()),
    };
    let verdict = match table.get(3) {
        Some(_) => table.u32(3)? == 0,
        None => false,
    };
    if table.get(3).is_some() && !verdict {
        return None;
    }
    let inverted = flag(table.u32(5).unwrap_or(0))?;
    Some(Expression::Lookup { set, sreg: table.register(2)?, verdict, inverted })
}

fn immediate(table: &Table<'_>) -> Option<Expression> {
    match table.u32(1)? {
        0 => table.verdict(2).map(Expression::Verdict),
        _ => Some(Expression::Load { dreg: table.register(1)?, value: table.value(2)? }),
    }
}

fn limit(table: &Table<'_>) -> Option<Expression> {
    let (rate, unit, burst) = (table.u64(1)?, table.u64(2)?, table.u32(3)?);
    let bytes = flag(table.u32(4).unwrap_or(0))?;
    Some(Expression::Limit { rate, unit, burst, bytes, over: flag(table.u32(5).unwrap_or(0))? })
}

fn log(table: &Table<'_>) -> Option<Expression> {
    const WARNING: u32 = 4;
    let prefix = match table.get(2) {
        Some(attribute) => text(attribute)?.to_owned(),
        None => String::new(),
    };
    if table.get(1).is_some() {
        let (group, snaplen) = (table.u16(1)?, table.u32(3).unwrap_or(0));
        let threshold = if table.get(4).is_some() { table.u16(4)? } else { 0 };
        return Some(Expression::LogGroup { prefix, group, snaplen, threshold });
    }
    let (level, flags) = (table.u32(5).unwrap_or(WARNING), table.u32(6).unwrap_or(0));
    Some(Expression::LogKernel { prefix, level, flags })
}

/// A TCP reset has no code, whatever was sent.
fn reject(table: &Table<'_>) -> Option<Expression> {
    const TCP_RESET: u32 = 1;
    let kind = table.u32(1)?;
    let code = match table.get(2) {
        Some(attribute) if kind != TCP_RESET => *attribute.value.first()?,
        _ => 0,
    };
    Some(Expression::Reject { kind, code })
}

fn nat(table: &Table<'_>) -> Option<Expression> {
    let (kind, family) = (table.u32(1)?, table.u32(2)?);
    let (addresses, ports) = (table.registers(3)?, table.registers(5)?);
    let flags = table.u32(7).unwrap_or(0) & !DERIVED_NAT_FLAGS;
    Some(Expression::Nat { nat: NatRegisters { kind, family, addresses, ports, flags } })
}

/// A set as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetHeader {
    pub(crate) name: String,
    pub(crate) anonymous: bool,
    /// None when it is of a kind that we never make.
    pub(crate) schema: Option<SetSchema>,
}

/// Reads the attributes of a set.
pub(crate) fn set(attributes: &[u8]) -> Option<SetHeader> {
    let table = Table::new(attributes);
    let name = text(table.get(2)?)?.to_owned();
    let flags = table.u32(3).unwrap_or(0);
    let anonymous = flags & set_flag::ANONYMOUS != 0;
    Some(SetHeader { name, anonymous, schema: schema(&table, flags) })
}

fn schema(table: &Table<'_>, flags: u32) -> Option<SetSchema> {
    let kind = SetKind::from_type_number(table.u32(4)?, flags & set_flag::INTERVAL != 0)?;
    let map = flags & set_flag::MAP != 0;
    let schema = SetSchema { kind, map };
    let own = flags & !(set_flag::ANONYMOUS | set_flag::CONSTANT);
    let fits = own == schema.flags()
        && table.u32(5)? == schema.kind.key_len() as u32
        && (!map || table.u32(6)? == DATA_VERDICT);
    fits.then_some(schema)
}

/// The elements of a set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Elements {
    pub(crate) entries: BTreeMap<Element, Option<Verdict>>,
    /// Something among them is not what we write: timeouts, catch-all, interval ends without a beginning.
    pub(crate) irregular: bool,
}

/// Collects the entries of a set; they may come in several messages.
#[derive(Debug, Default)]
pub(crate) struct ElementReader {
    starts: Vec<(Bytes, Option<Bytes>, Option<Verdict>)>,
    ends: Vec<Bytes>,
    irregular: bool,
}

impl ElementReader {
    /// Reads one list of entries.
    pub(crate) fn read(&mut self, list: &[u8]) {
        for entry in attributes(list) {
            if self.entry(&Table::new(entry.value)).is_none() {
                self.irregular = true;
            }
        }
    }

    fn entry(&mut self, table: &Table<'_>) -> Option<()> {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_END: u16 = 10;
        const USERDATA: u16 = 6;
        table.only(&[KEY, DATA, FLAGS, KEY_END, USERDATA])?;
        let key = table.value(KEY)?;
        match table.u32(FLAGS).unwrap_or(0) {
            0 => {}
            INTERVAL_END => {
                self.ends.push(key);
                return Some(());
            }
            _ => return None,
        }
        let verdict = match table.get(DATA) {
            Some(_) => Some(table.verdict(DATA)?),
            None => None,
        };
        self.starts.push((key, table.value(KEY_END), verdict));
        Some(())
    }

    /// The elements, once all entries are in.
    pub(crate) fn finish(mut self, kind: &SetKind) -> Elements {
        if !kind.intervals {
            return self.plain();
        }
        if kind.is_concatenation() { self.plain_or_closed() } else { self.paired(kind) }
    }

    fn plain(&mut self) -> Elements {
        let irregular = self.irregular || !self.ends.is_empty();
        let entries = std::mem::take(&mut self.starts)
            .into_iter()
            .map(|(low, high, verdict)| (Element { low, high }, verdict))
            .collect();
        Elements { entries, irregular }
    }

    /// Concatenations carry both ends; the kernel leaves out an upper end that is the lower one.
    fn plain_or_closed(&mut self) -> Elements {
        let mut elements = self.plain();
        elements.entries = std::mem::take(&mut elements.entries)
            .into_iter()
            .map(|(Element { low, high }, verdict)| {
                let high = Some(high.unwrap_or_else(|| low.clone()));
                (Element { low, high }, verdict)
            })
            .collect();
        elements
    }

    /// Each start ends before the next end; a start without one reaches the highest key.
    fn paired(&mut self, kind: &SetKind) -> Elements {
        self.starts.sort_by(|a, b| a.0.cmp(&b.0));
        self.ends.sort();
        let mut elements = Elements { irregular: self.irregular, ..Elements::default() };
        let mut ends = std::mem::take(&mut self.ends).into_iter().peekable();
        let starts = std::mem::take(&mut self.starts);
        for (index, (low, extra, verdict)) in starts.iter().enumerate() {
            let next = starts.get(index + 1).map(|(low, ..)| low);
            // An end that no start precedes stands for nothing: nft itself writes one at zero.
            while ends.next_if(|end| end <= low).is_some() {}
            let end = ends.next_if(|end| next.is_none_or(|next| end <= next));
            if (end.is_none() && next.is_some()) || extra.is_some() {
                elements.irregular = true;
            }
            let high = match end {
                Some(end) => end.predecessor(),
                None => Some(Bytes::highest(kind.key_len())),
            };
            elements.entries.insert(Element { low: low.clone(), high }, verdict.clone());
        }
        elements.irregular |= ends.next().is_some();
        elements
    }
}
