//! BGP's messages.

use std::borrow::Cow;

use bgp::packet::attribute::AttributeValue;
use bgp::packet::capability::Capability;
use bgp::packet::nlri::Nlri;
use bgp::packet::notification::Notification;
use bgp::packet::update::{Received, Update};
use bgp::packet::{Context, DecodeError, Framer, HEADER_LEN, MAX_EXTENDED_LEN, MAX_LEN, Message, PeerKind};
use bgp::{Asn, Family, FamilySet};

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const ROUTE_REFRESH: u8 = 5;

/// The bit that says that an attribute's length has two octets: it follows the length.
const EXTENDED_LENGTH: u8 = 0x10;

/// What a session may have agreed on, from one octet.
pub(crate) fn context(bits: u8) -> Context {
    let set = |bit: u8| bits & (1 << bit) != 0;
    let kind = if set(6) { PeerKind::External } else { PeerKind::Internal };
    Context {
        as4: set(0),
        families: if set(1) { FamilySet::ALL } else { FamilySet::from_iter([Family::Ipv4Unicast]) },
        add_path: if set(2) { FamilySet::ALL } else { FamilySet::EMPTY },
        extended_next_hop: set(3),
        extended_message: set(4),
        enhanced_refresh: set(5),
        peer_as: set(7).then_some(Asn(65001)),
        ..Context::initial(kind)
    }
}

/// Any octets, header and all. The first is the context.
pub(crate) fn message(data: &[u8]) {
    let Some((bits, bytes)) = data.split_first() else { return };
    check(bytes, &context(*bits));
}

/// The body of an OPEN.
pub(crate) fn open(data: &[u8]) {
    framed(OPEN, data, &context(0));
}

/// The body of an UPDATE. The first octet is the context.
pub(crate) fn update(data: &[u8]) {
    let Some((bits, body)) = data.split_first() else { return };
    framed(UPDATE, body, &context(*bits));
}

/// The body of a NOTIFICATION.
pub(crate) fn notification(data: &[u8]) {
    framed(NOTIFICATION, data, &context(0));
}

/// The body of a ROUTE-REFRESH. The first octet is the context.
pub(crate) fn route_refresh(data: &[u8]) {
    let Some((bits, body)) = data.split_first() else { return };
    framed(ROUTE_REFRESH, body, &context(*bits));
}

/// A list of prefixes, as withdrawn ones. The first octet is the context; its top bit takes IPv6.
pub(crate) fn prefixes(data: &[u8]) {
    let Some((bits, list)) = data.split_first() else { return };
    let context = context(*bits);
    let length = |octets: usize| u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes();
    let body = if bits & 0x80 == 0 {
        [&length(list.len()), list, &[0, 0]].concat()
    } else {
        let attribute = [&[0x90, 15][..], &length(list.len() + 3), &[0, 2, 1], list].concat();
        [&[0, 0][..], &length(attribute.len()), &attribute].concat()
    };
    framed(UPDATE, &body, &context);
}

/// Messages with correct headers, cut anywhere: they come out as if they had not been cut. The octets are the context, the
/// sizes of four pieces, and the stream.
pub(crate) fn stream(data: &[u8]) {
    let Some((&[bits, a, b, c, d], stream)) = data.split_first_chunk::<5>() else { return };
    let context = context(bits);
    let whole = cut(stream, &[usize::MAX], &context);
    let pieces = [a, b, c, d].map(|size| usize::from(size) + 1);
    assert_eq!(cut(stream, &pieces, &context), whole, "cut into pieces of {pieces:?}");
}

fn cut(stream: &[u8], sizes: &[usize], context: &Context) -> (Vec<Vec<u8>>, Option<DecodeError>) {
    let mut framer = Framer::default();
    let mut messages = Vec::new();
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        let (mut piece, after) = rest.split_at(rest.len().min(*size));
        loop {
            match framer.next(&mut piece, context) {
                Ok(Some(message)) => messages.push(Cow::into_owned(message)),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(piece.is_empty(), "what is no whole message yet is kept");
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    (messages, None)
}

/// A body behind a correct header.
fn framed(kind: u8, body: &[u8], context: &Context) {
    let Ok(length) = u16::try_from(HEADER_LEN + body.len()) else { return };
    let bytes = [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat();
    check(&bytes, context);
}

fn check(bytes: &[u8], context: &Context) {
    match Message::decode(bytes, context) {
        Err(error) => refused(&error),
        Ok(Message::Open(open)) => {
            let again = open.encode();
            assert!(again.len() <= MAX_EXTENDED_LEN);
            match Message::decode(&again, context) {
                Ok(Message::Open(second)) => assert_eq!(second.capabilities, open.capabilities),
                // One parameter for all capabilities may take a few octets more than many.
                Err(_) if again.len() > MAX_LEN => {}
                other => panic!("{open:?} came back as {other:?}"),
            }
            capabilities(&open.capabilities);
            let _ = bgp::session::check_peer(&open, Asn(65001), Asn(65002), open.router_id);
        }
        Ok(Message::Update(received)) => update_again(&received, bytes, context),
        Ok(Message::Notification(notification)) => notification_again(&notification, bytes),
        Ok(Message::RouteRefresh(refresh)) => assert_eq!(refresh.encode(), &bytes[..HEADER_LEN + 4]),
        Ok(Message::Keepalive) => assert_eq!(Message::keepalive(), &bytes[..HEADER_LEN]),
    }
}

/// What the peer is told must be a message that every peer takes.
fn refused(error: &DecodeError) {
    assert!(!error.to_string().is_empty());
    let told = error.notification.encode();
    assert!(told.len() <= MAX_LEN, "a NOTIFICATION of {} octets", told.len());
    let initial = Context::initial(PeerKind::External);
    let Ok(Message::Notification(read)) = Message::decode(&told, &initial) else {
        panic!("{told:?} is no NOTIFICATION")
    };
    assert_eq!((read.code, read.subcode), (error.notification.code, error.notification.subcode));
    assert!(error.notification.data.starts_with(&read.data));
}

fn capabilities(list: &[Capability]) {
    for capability in list {
        let value = capability.value();
        assert!(value.len() <= 255, "{capability:?}");
        assert_eq!(Capability::decode(capability.code(), &value), *capability);
    }
}

fn notification_again(notification: &Notification, bytes: &[u8]) {
    let again = notification.encode();
    assert!(bytes.starts_with(&again) || again.len() == MAX_LEN);
    let _ = (notification.to_string(), notification.shutdown_message(), notification.reset_for());
}

/// Without a fault, an UPDATE is written as it was read. With faults, what is left of it is.
fn update_again(received: &Received, bytes: &[u8], context: &Context) {
    let _ = (received.update.effective(), received.update.end_of_rib());
    received.faults.iter().for_each(|fault| assert!(!fault.to_string().is_empty()));
    received.update.attributes.iter().for_each(|attribute| {
        let _ = attribute.passed_on();
    });
    check_prefixes(&received.update.nlri, context);
    check_prefixes(&received.update.withdrawn, context);
    let again = received.update.encode(context);
    assert!(again.len() <= bytes.len(), "it is longer than it was");
    let second = read_update(&again, context);
    assert_eq!(normal(&second.update), normal(&received.update));
    let second_again = read_update(&second.update.encode(context), context);
    assert_eq!(second_again.update.attributes.len(), second.update.attributes.len());
    if received.faults.is_empty() && second.update.attributes.len() == received.update.attributes.len() {
        assert_eq!(second.faults, []);
    }
}

fn check_prefixes(list: &[Nlri], context: &Context) {
    for nlri in list {
        assert_eq!(nlri.prefix, nlri.prefix.trunc());
        assert_eq!(nlri.path_id.is_some(), context.add_path.contains(Family::Ipv4Unicast));
    }
}

fn read_update(bytes: &[u8], context: &Context) -> Received {
    match Message::decode(bytes, context) {
        Ok(Message::Update(received)) => received,
        other => panic!("an UPDATE came back as {other:?}"),
    }
}

/// Without what is about the writing only, and without an AS4_PATH of which nothing is left (RFC 6793, section 6: its
/// confederation segments are ignored), which cannot be written.
fn normal(update: &Update) -> Update {
    let mut update = update.clone();
    let is_left =
        |value: &AttributeValue| !matches!(value, AttributeValue::As4Path(path) if path.segments.is_empty());
    update.attributes.retain(|attribute| is_left(&attribute.value));
    update.attributes.iter_mut().for_each(|attribute| attribute.flags &= !(EXTENDED_LENGTH | 0x0f));
    update
}
