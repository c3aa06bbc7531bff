//! Whatever bytes come, the decoders of BMP and MRT give a value or an error, and what they took is written the same again.

use bgp::observe::{bmp, mrt};
use proptest::prelude::*;

/// A BMP message with a correct common header around any body.
fn bmp_framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bmp::COMMON_LEN + body.len()).expect("short").to_be_bytes();
    [&[3], &length[..], &[kind], body].concat()
}

fn mrt_framed(kind: u16, subtype: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[0; 4], &kind.to_be_bytes()[..], &subtype.to_be_bytes(), &length, body].concat()
}

/// A body that begins as one with a per-peer header does.
fn with_peer() -> impl Strategy<Value = Vec<u8>> {
    (0..4_u8, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(kind, flags, rest)| [&[kind, flags][..], &rest].concat())
}

fn check_bmp(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(Some((message, length))) = bmp::Message::decode(bytes) {
        prop_assert!(length <= bytes.len());
        let mut again = Vec::new();
        message.encode(&mut again);
        let reread = bmp::Message::decode(&again).expect("what we write can be read");
        prop_assert_eq!(reread, Some((message, again.len())));
    }
    Ok(())
}

fn check_mrt(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(Some((record, length))) = mrt::Record::decode(bytes) {
        prop_assert!(length <= bytes.len());
        let mut again = Vec::new();
        record.encode(&mut again).expect("what was read fits");
        let reread = mrt::Record::decode(&again).expect("what we write can be read");
        // Old forms are written anew, with microseconds and four octets.
        prop_assert_eq!(reread.map(|(record, _)| record.body), Some(record.body));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_a_bmp_message_or_an_error(bytes: Vec<u8>) {
        check_bmp(&bytes)?;
    }

    #[test]
    fn any_body_is_a_bmp_message_or_an_error(kind in 0..8_u8, body in with_peer()) {
        check_bmp(&bmp_framed(kind, &body))?;
    }

    #[test]
    fn any_bytes_are_an_mrt_record_or_an_error(bytes: Vec<u8>) {
        check_mrt(&bytes)?;
    }

    #[test]
    fn any_body_is_an_mrt_record_or_an_error(
        kind in prop_oneof![Just(13_u16), Just(16), Just(17)],
        subtype in 0..13_u16,
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        check_mrt(&mrt_framed(kind, subtype, &body))?;
    }

    #[test]
    fn any_bytes_are_attributes_or_an_error(bytes: Vec<u8>) {
        let _ = mrt::read_attributes(&bytes);
    }
}
