//! What the fuzzer has found (`fuzz/`), and reading for it: a case for each fault, so that it stays mended.

use bgp::packet::capability::Capability;
use bgp::packet::{Context, MAX_LEN, Message, PeerKind};

const HOSTNAME: u8 = 73;
const SOFTWARE_VERSION: u8 = 75;

#[test]
fn a_peer_gets_no_longer_notification_than_it_takes_whatever_it_has_sent() {
    let context =
        Context { extended_message: true, enhanced_refresh: true, ..Context::initial(PeerKind::External) };
    for length in [4096_u16, u16::MAX] {
        let mut bytes = [&[0xff; 16][..], &length.to_be_bytes(), &[5]].concat();
        bytes.resize(usize::from(length), 0);
        let error = Message::decode(&bytes, &context).expect_err("ROUTE-REFRESH has 4 octets");
        let told = error.notification.encode();
        assert_eq!((told.len(), &told[19..21]), (MAX_LEN, &[7, 1][..]), "of {length} octets");
        assert!(Message::decode(&told, &Context::initial(PeerKind::External)).is_ok());
    }
}

#[test]
fn a_capability_whose_text_is_none_is_kept_as_it_came() {
    for (code, value) in [(SOFTWARE_VERSION, &[2, 0xe4, 0x20][..]), (HOSTNAME, &[1, 0xff, 0])] {
        let read = Capability::decode(code, value);
        assert_eq!(read, Capability::Malformed { code, value: value.to_vec() });
        assert_eq!(read.value(), value);
    }
}

#[test]
fn capabilities_with_long_texts_are_written_as_they_were_read() {
    let text = "ä".repeat(126);
    let host = [&[252], text.as_bytes(), &[1, b'x']].concat();
    for (code, value) in [(HOSTNAME, host), (SOFTWARE_VERSION, [&[252], text.as_bytes()].concat())] {
        let read = Capability::decode(code, &value);
        assert!(!matches!(read, Capability::Malformed { .. }));
        assert_eq!(read.value(), value);
    }
}

#[test]
fn texts_that_are_too_long_for_a_capability_are_cut_between_characters() {
    let text = "ä".repeat(200);
    let version = Capability::SoftwareVersion(text.clone()).value();
    assert_eq!((version.len(), version[0]), (255, 254));
    let hostname = Capability::Hostname { host: text.clone(), domain: text }.value();
    assert!(hostname.len() <= 255);
    assert!(matches!(Capability::decode(HOSTNAME, &hostname), Capability::Hostname { .. }));
}
