//! The kinds of sets and maps, and their elements as the kernel keeps them.

use std::collections::BTreeMap;
use std::fmt;

use super::bytes::Bytes;
use super::error::InvalidRule;
use super::value::{DataType, Member, Part, Value};

/// What the keys of a set or map are. A change of kind replaces the set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetKind {
    /// The types of the key's parts; more than one make a concatenation.
    pub key: Vec<DataType>,
    /// Whether members may be ranges and networks.
    pub intervals: bool,
}

impl SetKind {
    /// A hash set of single values.
    pub fn hash(key: impl Into<Vec<DataType>>) -> Self {
        Self { key: key.into(), intervals: false }
    }

    /// A set of ranges and networks.
    pub fn intervals(key: impl Into<Vec<DataType>>) -> Self {
        Self { key: key.into(), intervals: true }
    }

    pub(crate) fn is_concatenation(&self) -> bool {
        self.key.len() > 1
    }

    /// Length of a key in bytes.
    pub(crate) fn key_len(&self) -> usize {
        match &self.key[..] {
            [one] => one.width(),
            many => many.iter().map(|kind| kind.padded_width()).sum(),
        }
    }

    /// nft's number of the type: six bits for each part.
    pub(crate) fn type_number(&self) -> u32 {
        self.key.iter().fold(0, |number, kind| number << 6 | kind.number())
    }

    /// The kind that `NFTA_SET_KEY_TYPE` says, where it is one of ours.
    pub(crate) fn from_type_number(mut number: u32, intervals: bool) -> Option<Self> {
        let mut key = Vec::new();
        while number != 0 {
            key.push(DataType::from_number(number & 0x3f)?);
            number >>= 6;
        }
        key.reverse();
        (!key.is_empty()).then_some(Self { key, intervals })
    }

    /// Checks that such a set can exist.
    pub(crate) fn check(&self) -> Result<(), InvalidRule> {
        let wrong = |what| Err(InvalidRule::SetKey { what });
        if self.key.is_empty() || self.key.len() > 5 {
            return wrong("a key has one to five parts");
        }
        if self.intervals && self.key.iter().any(|kind| kind.is_host_order()) {
            return wrong("intervals of marks and interface names are not supported");
        }
        if self.key_len() > 64 {
            return wrong("a key has at most 64 bytes");
        }
        Ok(())
    }

    /// The element for `member`.
    pub(crate) fn element(&self, member: &Member) -> Result<Element, InvalidRule> {
        if member.0.len() != self.key.len() {
            return Err(InvalidRule::Parts { parts: member.0.len(), wanted: self.key.len() });
        }
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for (part, kind) in member.0.iter().zip(&self.key) {
            self.append(part, *kind, &mut low, &mut high)?;
        }
        let high = self.intervals.then(|| Bytes::from(&high[..]));
        Ok(Element { low: Bytes::from(&low[..]), high })
    }

    fn append(
        &self,
        part: &Part,
        kind: DataType,
        low: &mut Vec<u8>,
        high: &mut Vec<u8>,
    ) -> Result<(), InvalidRule> {
        match part {
            Part::Range(from, to) if !self.intervals => {
                return Err(InvalidRule::Range { low: from.to_string(), high: to.to_string() });
            }
            Part::One(Value::Name(name)) if name.ends_with('*') => {
                return Err(InvalidRule::Wildcard { name: name.to_string() });
            }
            _ => {}
        }
        let (from, to) = part.encode(kind)?;
        for (bytes, into) in [(from, low), (to, high)] {
            into.extend_from_slice(bytes.as_slice());
            if self.is_concatenation() {
                into.resize(into.len().next_multiple_of(4), 0);
            }
        }
        Ok(())
    }

    /// The member that `element` is; none when it does not fit this kind.
    pub fn member(&self, element: &Element) -> Option<Member> {
        let (mut low, mut high) = (element.low.as_slice(), element.high().as_slice());
        let mut parts = Vec::new();
        for kind in &self.key {
            let width = if self.is_concatenation() { kind.padded_width() } else { kind.width() };
            let (from, rest_low) = low.split_at_checked(width)?;
            let (to, rest_high) = high.split_at_checked(width)?;
            let value = |bytes: &[u8]| Value::decode(*kind, &bytes[..kind.width()]);
            parts.push(Part::range(value(from)?, value(to)?));
            (low, high) = (rest_low, rest_high);
        }
        low.is_empty().then_some(Member(parts))
    }
}

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.key.iter().map(|kind| kind.name()).collect();
        write!(f, "type {}", names.join(" . "))
    }
}

/// An element of a set as the kernel keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The key, or the lowest one of an interval.
    pub low: Bytes,
    /// The highest key of an interval, included; none in a set without intervals.
    pub high: Option<Bytes>,
}

impl Element {
    /// Whether a key, whose fields have these values, lies in the element.
    pub fn covers(&self, kind: &SetKind, key: &[Value]) -> bool {
        let Some(Member(parts)) = kind.member(self) else { return false };
        let covers = |(part, value): (&Part, &Value)| match part {
            Part::One(one) => one == value,
            Part::Range(low, high) => (low..=high).contains(&value),
        };
        parts.len() == key.len() && parts.iter().zip(key).all(covers)
    }

    /// The highest key that the element covers.
    pub fn high(&self) -> &Bytes {
        self.high.as_ref().unwrap_or(&self.low)
    }
}

/// The members of a set with intervals (of one part) and what the kernel is given for them: it refuses overlaps, so
/// members that overlap are joined. Members that only touch stay apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Intervals {
    members: BTreeMap<Bytes, BTreeMap<Bytes, ()>>,
    joined: BTreeMap<Bytes, Bytes>,
}

/// What a change of members changes in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) removed: Vec<Element>,
    pub(crate) added: Vec<Element>,
}

impl Intervals {
    /// Adds a member.
    pub(crate) fn add(&mut self, member: &Element) -> Delta {
        let (low, high) = (member.low.clone(), member.high().clone());
        let highs = self.members.entry(low.clone()).or_default();
        if highs.insert(high.clone(), ()).is_some() {
            return Delta::default();
        }
        let touched = self.overlapping(&low, &high);
        if let [(from, to)] = &touched[..]
            && *from <= low
            && high <= *to
        {
            return Delta::default();
        }
        let from = touched.first().map_or(&low, |(from, _)| from.min(&low)).clone();
        let to = touched.last().map_or(&high, |(_, to)| to.max(&high)).clone();
        self.replace(touched, vec![(from, to)])
    }

    /// Removes a member.
    pub(crate) fn remove(&mut self, member: &Element) -> Delta {
        let (low, high) = (&member.low, member.high());
        let Some(highs) = self.members.get_mut(low) else { return Delta::default() };
        if highs.remove(high).is_none() {
            return Delta::default();
        }
        if highs.is_empty() {
            self.members.remove(low);
        }
        let touched = self.overlapping(low, high);
        let Some((from, to)) = touched.first().cloned() else { return Delta::default() };
        if self.members.get(&from).is_some_and(|highs| highs.contains_key(&to)) {
            return Delta::default();
        }
        let rest = join(
            self.members.range(from..=to).flat_map(|(low, highs)| highs.keys().map(move |high| (low, high))),
        );
        self.replace(touched, rest)
    }

    /// The members themselves.
    pub(crate) fn members(&self) -> impl Iterator<Item = Element> + '_ {
        self.members.iter().flat_map(|(low, highs)| {
            highs.keys().map(move |high| Element { low: low.clone(), high: Some(high.clone()) })
        })
    }

    fn overlapping(&self, low: &Bytes, high: &Bytes) -> Vec<(Bytes, Bytes)> {
        let before = self.joined.range(..low.clone()).next_back().filter(|(_, to)| *to >= low);
        let inside = self.joined.range(low.clone()..=high.clone());
        before.into_iter().chain(inside).map(|(from, to)| (from.clone(), to.clone())).collect()
    }

    fn replace(&mut self, old: Vec<(Bytes, Bytes)>, new: Vec<(Bytes, Bytes)>) -> Delta {
        let element = |(low, high): &(Bytes, Bytes)| Element { low: low.clone(), high: Some(high.clone()) };
        let delta = Delta {
            removed: old.iter().filter(|range| !new.contains(range)).map(element).collect(),
            added: new.iter().filter(|range| !old.contains(range)).map(element).collect(),
        };
        old.iter().for_each(|(low, _)| drop(self.joined.remove(low)));
        self.joined.extend(new);
        delta
    }
}

/// Joins ranges that overlap; they come by their lower end.
fn join<'a>(ranges: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Vec<(Bytes, Bytes)> {
    let mut joined: Vec<(Bytes, Bytes)> = Vec::new();
    for (low, high) in ranges {
        match joined.last_mut() {
            Some((_, to)) if low <= to => {
                if high > to {
                    *to = high.clone();
                }
            }
            _ => joined.push((low.clone(), high.clone())),
        }
    }
    joined
}

/// The elements for `members`, joined where the kernel refuses overlaps, in the kernel's order.
pub(crate) fn elements<'a>(
    kind: &SetKind,
    members: impl IntoIterator<Item = &'a Member>,
) -> Result<Vec<Element>, InvalidRule> {
    let mut elements = members.into_iter().map(|m| kind.element(m)).collect::<Result<Vec<_>, _>>()?;
    elements.sort();
    elements.dedup();
    if kind.intervals && !kind.is_concatenation() {
        let joined = join(elements.iter().map(|element| (&element.low, element.high())));
        return Ok(joined.into_iter().map(|(low, high)| Element { low, high: Some(high) }).collect());
    }
    Ok(elements)
}
