use super::Place;

/// Checks a community: `aa:nn` of 16 bits each (RFC 1997) or `aa:nn:mm` of 32 bits each (RFC 8092).
pub(crate) fn check_community(value: &str, at: &Place<'_>) {
    if !is_community(value) {
        at.refuse(
            value,
            "is not a community: aa:nn with numbers up to 65535, or aa:nn:mm with numbers up to 4294967295",
        );
    }
}

/// Whether a text is the value of a community.
fn is_community(value: &str) -> bool {
    let parts: Vec<&str> = value.split(':').collect();
    let is_number = |part: &&str, most: u32| {
        part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|number| number <= most)
    };
    match parts.len() {
        2 => parts.iter().all(|part| is_number(part, 0xffff)),
        3 => parts.iter().all(|part| is_number(part, u32::MAX)),
        _ => false,
    }
}
