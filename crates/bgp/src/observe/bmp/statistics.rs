//! Statistics: a number each, in the form that its type has.

use super::tlv;
use crate::observe::DecodeError;
use crate::observe::reader::Reader;
use crate::packet::capability::FamilyCode;

/// Types of statistics (RFC 7854, section 4.8; RFC 8671, section 6.2).
pub mod statistic {
    /// Prefixes that import policy has rejected.
    pub const REJECTED: u16 = 0;
    /// Announcements of routes that were there already.
    pub const DUPLICATE_ANNOUNCEMENTS: u16 = 1;
    /// Withdrawals of routes that were not there.
    pub const DUPLICATE_WITHDRAWALS: u16 = 2;
    /// UPDATEs that were not used because our cluster is in the CLUSTER_LIST.
    pub const CLUSTER_LIST_LOOPS: u16 = 3;
    /// UPDATEs that were not used because our AS is in the AS_PATH.
    pub const AS_PATH_LOOPS: u16 = 4;
    /// UPDATEs that were not used because we are their originator.
    pub const ORIGINATOR_LOOPS: u16 = 5;
    /// UPDATEs that were not used because of a loop in a confederation.
    pub const CONFEDERATION_LOOPS: u16 = 6;
    /// Routes in Adj-RIBs-In.
    pub const ADJ_RIB_IN: u16 = 7;
    /// Routes in the Loc-RIB.
    pub const LOC_RIB: u16 = 8;
    /// Routes in the Adj-RIB-In of a family.
    pub const ADJ_RIB_IN_OF_FAMILY: u16 = 9;
    /// Routes in the Loc-RIB of a family.
    pub const LOC_RIB_OF_FAMILY: u16 = 10;
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606).
    pub const UPDATES_TREATED_AS_WITHDRAW: u16 = 11;
    /// Prefixes that were treated as withdrawn.
    pub const PREFIXES_TREATED_AS_WITHDRAW: u16 = 12;
    /// UPDATEs that changed nothing.
    pub const DUPLICATE_UPDATES: u16 = 13;
    /// Routes in Adj-RIBs-Out before export policy.
    pub const ADJ_RIB_OUT_PRE_POLICY: u16 = 14;
    /// Routes in Adj-RIBs-Out behind it.
    pub const ADJ_RIB_OUT_POST_POLICY: u16 = 15;
    /// Routes in the Adj-RIB-Out of a family before export policy.
    pub const ADJ_RIB_OUT_PRE_POLICY_OF_FAMILY: u16 = 16;
    /// Routes in the Adj-RIB-Out of a family behind it.
    pub const ADJ_RIB_OUT_POST_POLICY_OF_FAMILY: u16 = 17;
}

/// A statistic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistic {
    /// Which: one of [`statistic`].
    pub kind: u16,
    /// The number.
    pub value: Value,
}

/// The number of a statistic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Counts since the session was configured, and wraps.
    Counter(u32),
    /// How many there are.
    Gauge(u64),
    /// How many there are of a family.
    OfFamily(FamilyCode, u64),
    /// That of a type that we do not know.
    Unknown(Vec<u8>),
}

impl Statistic {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match &self.value {
            Value::Counter(number) => tlv(self.kind, &number.to_be_bytes(), out),
            Value::Gauge(number) => tlv(self.kind, &number.to_be_bytes(), out),
            Value::OfFamily(family, number) => {
                let mut value = family.afi.to_be_bytes().to_vec();
                value.push(family.safi);
                value.extend_from_slice(&number.to_be_bytes());
                tlv(self.kind, &value, out);
            }
            Value::Unknown(value) => tlv(self.kind, value, out),
        }
    }

    fn decode(kind: u16, value: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = match kind {
            0..=6 | 11..=13 => Value::Counter(value.u32("Stat Data")?),
            7 | 8 | 14 | 15 => Value::Gauge(value.u64("Stat Data")?),
            9 | 10 | 16 | 17 => {
                let family = FamilyCode { afi: value.u16("AFI")?, safi: value.u8("SAFI")? };
                Value::OfFamily(family, value.u64("Stat Data")?)
            }
            _ => Value::Unknown(value.remaining().to_vec()),
        };
        Ok(Self { kind, value })
    }
}

/// All of them; as many as are announced.
pub(super) fn decode(body: &mut Reader<'_>) -> Result<Vec<Statistic>, DecodeError> {
    let at = body.clone();
    let announced = body.u32("Stats Count")?;
    let list = super::tlvs(body, Statistic::decode)?;
    if u32::try_from(list.len()) != Ok(announced) {
        return Err(at.fault("Stats Count", format!("{announced}, but there are {}", list.len())));
    }
    Ok(list)
}
