//! What is encoded is decoded as the same, and no bytes whatever make the decoder panic.

use std::sync::Arc;

use fastrand::Rng;

use super::batch::Batch;
use super::bytes::Bytes;
use super::decode::{self, AnonymousSets, ElementReader};
use super::encode::{self, SetSchema};
use super::expression::{
    AnonymousSet, Expression, NatRegisters, Register, SetRef, comment_userdata, userdata_comment,
};
use super::set::{Element, SetKind};
use super::statement::Verdict;
use super::transport::{CompiledRule, Operation};
use super::value::DataType;
use super::wire::{Writer, attributes, messages};
use super::{Family, Rule, TableId};

const SEED: u64 = 0x7027_1e00;

fn bytes(random: &mut Rng, len: usize) -> Bytes {
    Bytes::from(&(0..len).map(|_| random.u8(..)).collect::<Vec<u8>>()[..])
}

fn register(random: &mut Rng) -> Register {
    Register(random.u8(0..16))
}

fn name(random: &mut Rng) -> Arc<str> {
    (0..random.usize(1..20)).map(|_| random.alphanumeric()).collect::<String>().into()
}

fn pair(random: &mut Rng) -> Option<(Register, Register)> {
    random.bool().then(|| (register(random), register(random)))
}

fn verdict(random: &mut Rng) -> Verdict {
    match random.u8(0..6) {
        0 => Verdict::Accept,
        1 => Verdict::Drop,
        2 => Verdict::Continue,
        3 => Verdict::Return,
        4 => Verdict::Jump(name(random)),
        _ => Verdict::Goto(name(random)),
    }
}

fn expression(random: &mut Rng) -> Expression {
    let (sreg, dreg) = (register(random), register(random));
    let len = random.usize(1..=16);
    let prefix = if random.bool() { name(random).to_string() } else { String::new() };
    match random.u8(0..23) {
        0 => Expression::Meta { key: random.u32(..), dreg },
        1 => Expression::MetaSet { key: random.u32(..), sreg },
        2 => Expression::Payload { base: random.u32(..), offset: random.u32(..), len: len as u32, dreg },
        21 => Expression::PayloadSet {
            sreg,
            base: random.u32(..),
            offset: random.u32(..),
            len: len as u32,
            checksum: random.bool().then(|| random.u32(..)),
        },
        3 => Expression::Ct { key: random.u32(..), dreg },
        4 => Expression::Fib { result: random.u32(..), flags: random.u32(..), dreg },
        5 => Expression::Bitwise { sreg, dreg, mask: bytes(random, len), xor: bytes(random, len) },
        6 => {
            let (len, size) = (random.u32(..), random.u32(..));
            Expression::Byteorder { sreg, dreg, to_network: random.bool(), len, size }
        }
        7 => Expression::Compare { sreg, operator: random.u32(0..6), value: bytes(random, len) },
        8 => {
            let (from, to) = (bytes(random, len), bytes(random, len));
            Expression::Range { sreg, inverted: random.bool(), from, to }
        }
        9 => {
            let set = SetRef::Named(name(random));
            Expression::Lookup { set, sreg, verdict: random.bool(), inverted: random.bool() }
        }
        10 => Expression::Load { dreg, value: bytes(random, len) },
        11 => Expression::Verdict(verdict(random)),
        12 => Expression::Counter,
        13 => Expression::Limit {
            rate: random.u64(..),
            unit: random.u64(..),
            burst: random.u32(..),
            bytes: random.bool(),
            over: random.bool(),
        },
        14 => Expression::ConnectionLimit { count: random.u32(..), over: random.bool() },
        15 => Expression::LogKernel { prefix, level: random.u32(0..9), flags: random.u32(0..32) },
        16 => Expression::LogGroup {
            prefix,
            group: random.u16(..),
            snaplen: random.u32(..),
            threshold: random.u16(..),
        },
        17 => Expression::Reject { kind: if random.bool() { 0 } else { 2 }, code: random.u8(..) },
        18 => Expression::Masquerade { flags: random.u32(..) & !3, ports: pair(random) },
        19 => Expression::Nat {
            nat: NatRegisters {
                kind: random.u32(0..2),
                family: random.u32(..),
                addresses: pair(random),
                ports: pair(random),
                flags: random.u32(..) & !3,
            },
        },
        20 => Expression::Notrack,
        _ => Expression::Unknown { name: "quota".into(), data: bytes(random, len * 4).as_slice().to_vec() },
    }
}

#[test]
fn expressions_come_back_as_they_were_written() {
    for round in 0..2000 {
        let mut random = Rng::with_seed(SEED + round);
        let written: Vec<Expression> = (0..random.usize(0..12)).map(|_| expression(&mut random)).collect();
        let mut out = Writer::default();
        encode::expressions(&mut out, 4, &written, 1);
        assert!(!out.is_oversized());
        let list = attributes(&out.bytes).next().expect("one list was written");
        let (read, _) = decode::expressions(list.value, &AnonymousSets::new());
        assert_eq!(read, written, "seed {}", SEED + round);
    }
}

/// Kinds of sets that the kernel can have.
fn kind(random: &mut Rng) -> SetKind {
    let intervals = random.bool();
    let types: Vec<DataType> =
        DataType::ALL.into_iter().filter(|kind| !intervals || !kind.is_host_order()).collect();
    let parts = random.usize(1..=3);
    SetKind { key: (0..parts).map(|_| *random.choice(&types).expect("some")).collect(), intervals }
}

fn element(random: &mut Rng, kind: &SetKind) -> Element {
    let len = kind.key_len();
    let (one, other) = (bytes(random, len), bytes(random, len));
    if !kind.intervals {
        return Element { low: one, high: None };
    }
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    Element { low, high: Some(high) }
}

/// Random elements; in one dimension those that do not overlap, as the kernel demands.
fn elements(random: &mut Rng, kind: &SetKind, map: bool) -> Vec<(Element, Option<Verdict>)> {
    let mut elements: Vec<Element> = (0..random.usize(0..20)).map(|_| element(random, kind)).collect();
    if random.bool() && kind.intervals {
        let (low, high) = (vec![0; kind.key_len()], vec![0xff; kind.key_len()]);
        elements.push(Element { low: Bytes::from(&low[..]), high: Some(Bytes::from(&low[..])) });
        elements.push(Element { low: Bytes::from(&high[..]), high: Some(Bytes::from(&high[..])) });
    }
    elements.sort();
    elements.dedup_by(|next, before| {
        next.low == before.low || (kind.intervals && !kind.is_concatenation() && next.low <= *before.high())
    });
    elements.into_iter().map(|element| (element, map.then(|| verdict(random)))).collect()
}

#[test]
fn elements_come_back_as_they_were_written() {
    for round in 0..2000 {
        let mut random = Rng::with_seed(SEED + round);
        let (kind, map) = (kind(&mut random), random.bool());
        let written = elements(&mut random, &kind, map);
        let mut out = Writer::default();
        out.nested(3, |out| {
            for (element, verdict) in &written {
                encode::element(out, &kind, element, verdict.as_ref());
            }
        });
        let mut reader = ElementReader::default();
        reader.read(attributes(&out.bytes).next().expect("one list was written").value);
        let read = reader.finish(&kind);
        assert!(!read.irregular, "seed {}: {kind:?} {written:?}", SEED + round);
        assert_eq!(read.entries.into_iter().collect::<Vec<_>>(), written, "seed {}", SEED + round);
    }
}

#[test]
fn set_descriptions_come_back_as_they_were_written() {
    for round in 0..500 {
        let mut random = Rng::with_seed(SEED + round);
        let schema = SetSchema { kind: kind(&mut random), map: random.bool() };
        let mut out = Writer::default();
        out.string(1, "table");
        out.string(2, "set");
        encode::set(&mut out, &schema, 0, 1);
        let read = decode::set(&out.bytes).expect("a set was written");
        assert_eq!((&*read.name, read.anonymous, read.schema), ("set", false, Some(schema)));
    }
}

#[test]
fn what_nft_writes_around_intervals_is_understood() {
    let kind = SetKind::intervals([DataType::InetProto]);
    let entry = |out: &mut Writer, key: u8, end: bool| {
        out.nested(1, |out| {
            out.nested(1, |out| out.bytes(1, &[key]));
            if end {
                out.u32(3, encode::INTERVAL_END);
            }
        });
    };
    let read = |entries: &[(u8, bool)]| {
        let mut out = Writer::default();
        entries.iter().for_each(|(key, end)| entry(&mut out, *key, *end));
        let mut reader = ElementReader::default();
        reader.read(&out.bytes);
        reader.finish(&kind)
    };
    let range = |low: u8, high: u8| Element { low: Bytes::from([low]), high: Some(Bytes::from([high])) };
    let only = |elements: &decode::Elements| elements.entries.keys().cloned().collect::<Vec<_>>();

    let leading_end = read(&[(0, true), (5, false), (9, true)]);
    assert_eq!((only(&leading_end), leading_end.irregular), (vec![range(5, 8)], false));
    let open = read(&[(200, false)]);
    assert_eq!((only(&open), open.irregular), (vec![range(200, 255)], false));
    assert!(read(&[(5, false), (9, false), (12, true)]).irregular, "a beginning without an end");
    assert!(read(&[(5, false), (9, true), (12, true)]).irregular, "an end without a beginning");
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    for round in 0..20_000 {
        let mut random = Rng::with_seed(SEED + round);
        let noise = noise(&mut random);
        exercise(&noise);
    }
}

/// Random bytes, or something well-formed with a few bytes changed or cut.
fn noise(random: &mut Rng) -> Vec<u8> {
    let mut noise: Vec<u8> = if random.bool() {
        (0..random.usize(0..200)).map(|_| random.u8(0..20)).collect()
    } else {
        let written: Vec<Expression> = (0..4).map(|_| expression(random)).collect();
        let mut out = Writer::default();
        out.message(6, 0, 1, 2, |out| encode::expressions(out, 4, &written, 1));
        out.bytes
    };
    for _ in 0..random.usize(0..6) {
        if let Some(byte) = random.choice(&mut noise) {
            *byte = fastrand::Rng::with_seed(u64::from(*byte)).u8(..);
        }
    }
    noise.truncate(random.usize(0..=noise.len()));
    noise
}

fn exercise(noise: &[u8]) {
    let sets = AnonymousSets::new();
    for message in messages(noise) {
        message.attributes().for_each(|attribute| drop(decode::expressions(attribute.value, &sets)));
        let _ = (message.nft_kind(), message.family(), message.attribute(1));
    }
    let _ = (decode::expressions(noise, &sets), decode::set(noise), userdata_comment(noise));
    for kind in [SetKind::hash([DataType::Mark]), SetKind::intervals([DataType::Ipv4Addr])] {
        let mut reader = ElementReader::default();
        reader.read(noise);
        for element in reader.finish(&kind).entries.into_keys() {
            let _ = kind.member(&element);
        }
    }
}

#[test]
fn a_batch_has_one_sequence_number_for_each_message_and_ends_with_an_acknowledgement() {
    let table = TableId::new(Family::Ip, "t");
    let kind = SetKind::hash([DataType::Ipv4Addr]);
    let schema = SetSchema { kind: kind.clone(), map: false };
    let many = (0..20_000_u32).map(|n| (Element { low: n.to_be_bytes().into(), high: None }, None));
    let set = AnonymousSet { kind, elements: vec![Element { low: [1, 1, 1, 1].into(), high: None }] };
    let lookup = |set| Expression::Lookup { set, sreg: Register(0), verdict: false, inverted: false };
    let mut rule = CompiledRule { rule: Rule::new(), body: super::RuleBody::default() };
    rule.body.expressions = vec![lookup(SetRef::Anonymous(set.into()))];
    let rule = Arc::new(rule);
    let add = || Operation::AddRule { chain: "c".into(), before: None, rule: rule.clone() };
    let operations = [
        Operation::AddTable,
        Operation::AddSet { name: "s".into(), schema: schema.clone() },
        Operation::AddElements { set: "s".into(), schema, elements: many.collect() },
        add(),
        add(),
    ];
    let batch = Batch::encode(&table, 7, 100, &operations);
    assert!(!batch.writer.is_oversized());
    let sent: Vec<_> = messages(&batch.writer.bytes).collect();
    assert_eq!(sent.len(), batch.operation_of.len());
    let sequences: Vec<u32> = sent.iter().map(|message| message.sequence).collect();
    assert_eq!(sequences, (100..100 + sent.len() as u32).collect::<Vec<_>>());
    let acknowledged: Vec<u32> =
        sent.iter().filter(|message| message.flags & 4 != 0).map(|message| message.sequence).collect();
    assert_eq!(acknowledged, [batch.last]);
    assert_eq!(batch.last, 100 + sent.len() as u32 - 2, "the last message before the end marker");
    // A rule's own set is numbered before it: the set, the rule, the second set, the second rule.
    assert_eq!(batch.rules.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn what_does_not_fit_an_attribute_is_noticed() {
    let mut out = Writer::default();
    out.nested(1, |out| out.bytes(2, &[0; 65_530]));
    assert!(out.is_oversized());
}

#[test]
fn comments_survive_the_user_data() {
    for comment in ["", "a", "policy default/allow-web, rule 3", "\u{e9}"] {
        assert_eq!(userdata_comment(&comment_userdata(comment)).as_deref(), Some(comment));
    }
    assert_eq!(userdata_comment(&[1, 2, 9, 9]), None);
}
