//! UIDs of converted objects.

/// A text that is no UID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UID such as 30316465-6365-4463-ad63-3564622d3638")]
pub struct UidError(pub String);

/// The UID of an object made from another: that of the source, with the bits of each byte in reverse order. Bytes 6 and 8
/// keep theirs, since they hold version and variant (RFC 9562 section 4). Doing it twice gives the source's again.
///
/// # Errors
/// The text is not a UID.
pub fn converted_uid(uid: &str) -> Result<String, UidError> {
    let bytes = parse(uid).ok_or_else(|| UidError(uid.to_owned()))?;
    let mut text = String::with_capacity(uid.len());
    for (index, byte) in bytes.into_iter().enumerate() {
        if DASHES_BEFORE.contains(&index) {
            text.push('-');
        }
        let byte = if matches!(index, 6 | 8) { byte } else { byte.reverse_bits() };
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

/// The bytes before which the text has a dash.
const DASHES_BEFORE: [usize; 4] = [4, 6, 8, 10];

fn parse(uid: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = uid.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.concat();
    if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_reversed_but_for_version_and_variant() {
        let uid = "30316465-6365-4463-ad63-3564622d3638";
        let converted = converted_uid(uid).unwrap();
        assert_eq!(converted, "0c8c26a6-c6a6-44c6-adc6-ac2646b46c1c");
        assert_eq!(converted_uid(&converted).unwrap(), uid);
    }

    #[test]
    fn what_is_no_uid_is_refused() {
        for text in
            ["", "not-a-uid", "30316465-6365-4463-ad63-3564622d363", "3031646563654463ad633564622d3638"]
        {
            assert_eq!(converted_uid(text), Err(UidError(text.to_owned())));
        }
        assert!(converted_uid("+0316465-6365-4463-ad63-3564622d3638").is_err());
    }
}
