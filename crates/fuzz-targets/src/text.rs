//! What operators write: communities, AS numbers, places in a table.

use std::fmt::Display;
use std::str::FromStr;

use bgp::Asn;
use bgp::packet::attribute::{Community, LargeCommunity};
use bgp::query::Cursor;

/// What is read is written so that it is read again as the same.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    again::<Community>(text);
    again::<LargeCommunity>(text);
    again::<Asn>(text);
    again::<Cursor>(text);
}

fn again<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    assert_eq!(written.parse::<T>().ok().as_ref(), Some(&value), "{text:?} is written as {written:?}");
}
