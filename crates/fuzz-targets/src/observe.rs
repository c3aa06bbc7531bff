//! BMP and MRT: what observers would read of us, or of others.

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
