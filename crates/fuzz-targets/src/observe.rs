//! BMP and MRT: what observers would read of us, or of others; and what a process reads of the one before it.

use bgp::handover::Handover;
use bgp::observe::{bmp, mrt};

/// As many messages as there are; each is written again as the same.
pub(crate) fn bmp(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((message, length))) = bmp::Message::decode(rest) {
        assert!((bmp::COMMON_LEN..=rest.len()).contains(&length));
        let mut again = Vec::new();
        message.encode(&mut again);
        assert_eq!(bmp::Message::decode(&again), Ok(Some((message, again.len()))));
        rest = &rest[length..];
    }
}

/// As many records as there are; each is written again as the same, but for the forms that we do not write.
pub(crate) fn mrt(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((record, length))) = mrt::Record::decode(rest) {
        assert!((mrt::COMMON_LEN..=rest.len()).contains(&length));
        let mut again = Vec::new();
        record.encode(&mut again).expect("what was read fits");
        let reread = mrt::Record::decode(&again).expect("what we write can be read");
        let (reread, whole) = reread.expect("what we write is whole");
        assert_eq!((&reread.body, whole), (&record.body, again.len()));
        attributes(&record.body);
        rest = &rest[length..];
    }
}

fn attributes(body: &mrt::Body) {
    if let mrt::Body::Prefix(prefix) = body {
        for entry in &prefix.entries {
            if let Err(error) = mrt::read_attributes(&entry.attributes) {
                assert!(error.offset <= entry.attributes.len(), "{error}");
            }
        }
    }
}

/// The attributes of a route in a table.
pub(crate) fn mrt_attributes(data: &[u8]) {
    if let Err(error) = mrt::read_attributes(data) {
        assert!(!error.to_string().is_empty());
    }
}

/// The state of a speaker, for the process that takes its place.
pub(crate) fn handover(data: &[u8]) {
    match Handover::decode(data) {
        Ok(handover) => assert_eq!(Handover::decode(&handover.encode()), Ok(handover)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
