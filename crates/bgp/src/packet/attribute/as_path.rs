//! AS_PATH (RFC 4271, section 5.1.2; RFC 6793).
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! | Segment type  | Count of ASes |  AS numbers, 2 or 4 octets each
//! +---------------+---------------+-------------------------------+
//! ```

use std::fmt;

use crate::types::Asn;

/// The ASes that a route went through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AsPath {
    /// Segments, the nearest first.
    pub segments: Vec<Segment>,
}

/// A part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// What the numbers mean.
    pub kind: SegmentKind,
    /// 1 to 255 AS numbers.
    pub asns: Vec<Asn>,
}

/// What a segment's numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// In no order.
    Set,
    /// In order.
    Sequence,
    /// In order, inside a confederation (RFC 5065).
    ConfederationSequence,
    /// In no order, inside a confederation.
    ConfederationSet,
}

impl SegmentKind {
    fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfederationSequence => 3,
            Self::ConfederationSet => 4,
        }
    }

    /// Whether it belongs to a confederation.
    pub fn is_confederation(self) -> bool {
        matches!(self, Self::ConfederationSequence | Self::ConfederationSet)
    }
}

impl AsPath {
    /// A path of one sequence; empty when there are no numbers.
    pub fn sequence(asns: impl IntoIterator<Item = u32>) -> Self {
        let asns: Vec<Asn> = asns.into_iter().map(Asn).collect();
        let segments =
            if asns.is_empty() { Vec::new() } else { vec![Segment { kind: SegmentKind::Sequence, asns }] };
        Self { segments }
    }

    /// All AS numbers, in the order written.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + '_ {
        self.segments.iter().flat_map(|segment| segment.asns.iter().copied())
    }

    /// How long the path is for route selection: a set counts one, a confederation nothing (RFC 4271, section
    /// 9.1.2.2 a; RFC 5065, section 5.3).
    pub fn length(&self) -> usize {
        self.segments.iter().map(Segment::length).sum()
    }

    /// The neighbouring AS, which the MED belongs to: the first of a sequence that comes first.
    pub fn neighbour(&self) -> Option<Asn> {
        match self.segments.iter().find(|segment| !segment.kind.is_confederation()) {
            Some(Segment { kind: SegmentKind::Sequence, asns }) => asns.first().copied(),
            _ => None,
        }
    }

    /// How often an AS number is in it.
    pub fn count(&self, asn: Asn) -> usize {
        self.asns().filter(|other| *other == asn).count()
    }

    /// Puts an AS number in front, so many times (RFC 4271, section 5.1.2).
    pub fn prepend(&mut self, asn: Asn, times: usize) {
        for _ in 0..times {
            match self.segments.first_mut() {
                Some(first) if first.kind == SegmentKind::Sequence && first.asns.len() < 255 => {
                    first.asns.insert(0, asn);
                }
                _ => self.segments.insert(0, Segment { kind: SegmentKind::Sequence, asns: vec![asn] }),
            }
        }
    }

    /// Whether a two-octet speaker cannot be told all of it.
    pub fn needs_four_octets(&self) -> bool {
        self.asns().any(|asn| asn.0 > 0xffff)
    }

    /// The path that a two-octet AS_PATH and an AS4_PATH mean together (RFC 6793, section 4.2.3).
    #[must_use]
    pub fn merged_with(&self, four: &AsPath) -> AsPath {
        let Some(mut leading) = self.length().checked_sub(four.length()) else { return self.clone() };
        let mut segments: Vec<Segment> = Vec::new();
        for segment in &self.segments {
            if leading == 0 {
                break;
            }
            let taken = match segment.kind {
                SegmentKind::Sequence => segment.asns.len().min(leading),
                _ => segment.asns.len(),
            };
            leading -= segment.length().min(leading);
            segments.push(Segment { kind: segment.kind, asns: segment.asns[..taken].to_vec() });
        }
        for segment in &four.segments {
            match segments.last_mut() {
                Some(last)
                    if last.kind == SegmentKind::Sequence
                        && segment.kind == SegmentKind::Sequence
                        && last.asns.len() + segment.asns.len() <= 255 =>
                {
                    last.asns.extend_from_slice(&segment.asns);
                }
                _ => segments.push(segment.clone()),
            }
        }
        AsPath { segments }
    }

    /// Reads segments until the bytes end.
    pub(crate) fn decode(mut bytes: &[u8], four_octets: bool) -> Result<Self, &'static str> {
        let size = if four_octets { 4 } else { 2 };
        let mut segments = Vec::new();
        while !bytes.is_empty() {
            let Some((&[kind, count], rest)) = bytes.split_first_chunk::<2>() else {
                return Err("a segment is cut short");
            };
            let kind = match kind {
                1 => SegmentKind::Set,
                2 => SegmentKind::Sequence,
                3 => SegmentKind::ConfederationSequence,
                4 => SegmentKind::ConfederationSet,
                _ => return Err("a segment of an unknown type"),
            };
            if count == 0 {
                return Err("an empty segment");
            }
            let Some((numbers, rest)) = rest.split_at_checked(usize::from(count) * size) else {
                return Err("a segment overruns the attribute");
            };
            let asns = numbers.chunks_exact(size).map(|octets| Asn(number(octets))).collect();
            segments.push(Segment { kind, asns });
            bytes = rest;
        }
        Ok(Self { segments })
    }

    pub(crate) fn encode(&self, four_octets: bool, out: &mut Vec<u8>) {
        for segment in &self.segments {
            out.push(segment.kind.code());
            out.push(u8::try_from(segment.asns.len()).expect("a segment holds at most 255"));
            for asn in &segment.asns {
                match four_octets {
                    true => out.extend_from_slice(&asn.0.to_be_bytes()),
                    false => out.extend_from_slice(&asn.to_two_octets().to_be_bytes()),
                }
            }
        }
    }
}

impl Segment {
    fn length(&self) -> usize {
        match self.kind {
            SegmentKind::Sequence => self.asns.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet => 0,
        }
    }
}

fn number(octets: &[u8]) -> u32 {
    octets.iter().fold(0, |number, octet| number << 8 | u32::from(*octet))
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments.iter().enumerate() {
            let (open, close) = match segment.kind {
                SegmentKind::Sequence => ("", ""),
                SegmentKind::Set => ("{", "}"),
                SegmentKind::ConfederationSequence => ("(", ")"),
                SegmentKind::ConfederationSet => ("[", "]"),
            };
            let numbers: Vec<String> = segment.asns.iter().map(Asn::to_string).collect();
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{open}{}{close}", numbers.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_segment_is_not_prepended_to() {
        let mut path = AsPath::sequence(std::iter::repeat_n(7, 255));
        path.prepend(Asn(9), 2);
        assert_eq!(path.segments.len(), 2);
        assert_eq!(path.segments[0].asns, [Asn(9), Asn(9)]);
        assert_eq!((path.length(), path.neighbour()), (257, Some(Asn(9))));
    }

    #[test]
    fn a_set_counts_once() {
        let set = Segment { kind: SegmentKind::Set, asns: vec![Asn(1), Asn(2)] };
        let mut path = AsPath { segments: vec![set] };
        assert_eq!((path.length(), path.neighbour()), (1, None));
        path.prepend(Asn(3), 1);
        assert_eq!((path.length(), path.to_string().as_str()), (2, "3 {1 2}"));
    }
}
