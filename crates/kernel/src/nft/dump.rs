//! Chains and rules from the messages of a dump.

use super::decode::{self, AnonymousSets};
use super::expression::{RuleBody, userdata_comment};
use super::family::{BaseChain, ChainType, Family, Hook, Policy};
use super::transport::{ChainBase, RuleCount, RuleState};
use super::wire::{self, Message, be32, be64, text};

pub(super) fn read_chain(family: Family, message: &Message<'_>) -> Option<(String, ChainBase)> {
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    let name = text(&message.attribute(NAME)?)?.to_owned();
    let base = match message.attribute(HOOK) {
        None => ChainBase::Regular,
        Some(hook) => read_base(family, message, hook.value).map_or(ChainBase::Other, ChainBase::Base),
    };
    Some((name, base))
}

fn read_base(family: Family, message: &Message<'_>, hook: &[u8]) -> Option<BaseChain> {
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    let number = |kind| wire::attributes(hook).find(|a| a.kind == kind).and_then(|a| be32(&a));
    let has_device = wire::attributes(hook).any(|attribute| attribute.kind > 2);
    if has_device {
        return None;
    }
    let policy = match message.attribute(POLICY).and_then(|policy| be32(&policy))? {
        0 => Policy::Drop,
        1 => Policy::Accept,
        _ => return None,
    };
    Some(BaseChain {
        kind: ChainType::from_name(text(&message.attribute(TYPE)?)?)?,
        hook: Hook::from_number(family, number(1)?)?,
        priority: number(2)?.cast_signed(),
        policy,
    })
}

/// `NFTA_RULE_*`.
mod rule_attribute {
    pub(super) const CHAIN: u16 = 2;
    pub(super) const HANDLE: u16 = 3;
    pub(super) const EXPRESSIONS: u16 = 4;
    pub(super) const USERDATA: u16 = 7;
}

pub(super) fn read_rule<'a>(message: &Message<'a>, sets: &AnonymousSets) -> Option<(&'a str, RuleState)> {
    let (mut chain, mut handle, mut body) = (None, None, RuleBody::default());
    for attribute in message.attributes() {
        match attribute.kind {
            rule_attribute::CHAIN => chain = text(&attribute),
            rule_attribute::HANDLE => handle = be64(&attribute),
            rule_attribute::EXPRESSIONS => {
                body.expressions = decode::expressions(attribute.value, sets).0;
            }
            rule_attribute::USERDATA => body.userdata = attribute.value.to_vec(),
            _ => {}
        }
    }
    Some((chain?, RuleState { handle: handle?, body }))
}

pub(super) fn read_count(message: &Message<'_>) -> Option<RuleCount> {
    let attribute = |kind| message.attribute(kind);
    let expressions = attribute(rule_attribute::EXPRESSIONS)?;
    Some(RuleCount {
        chain: text(&attribute(rule_attribute::CHAIN)?)?.to_owned(),
        handle: be64(&attribute(rule_attribute::HANDLE)?)?,
        comment: attribute(rule_attribute::USERDATA).and_then(|data| userdata_comment(data.value)),
        count: decode::expressions(expressions.value, &AnonymousSets::new()).1?,
    })
}
