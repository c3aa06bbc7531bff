use std::fmt;

pub use rustix::io::Errno;

use super::message::attributes;

/// Why the kernel refused one request: the error number and, where the kernel gave one, its own sentence
/// (extended acknowledgement, `linux/netlink.h` `NLMSGERR_ATTR_*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The kernel's explanation.
    pub text: Option<String>,
    /// Where in the request the offending attribute is, in bytes from the start of its header.
    pub offset: Option<u32>,
}

impl Refusal {
    /// A refusal of which only the number is known.
    pub fn new(errno: Errno) -> Self {
        Self { errno, text: None, offset: None }
    }

    /// Whether the object (or what it hangs on) is not there: nothing remains to be deleted.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno, Errno::NOENT | Errno::SRCH | Errno::NODEV | Errno::ADDRNOTAVAIL | Errno::NXIO)
    }

    /// The body of an `NLMSG_ERROR`: `None` when it is an acknowledgement.
    ///
    /// ```text
    /// | -errno (4) | header of the request (16) | [rest of the request] | attributes if NLM_F_ACK_TLVS |
    /// ```
    pub(crate) fn decode(flags: u16, payload: &[u8]) -> Option<Self> {
        const CAPPED: u16 = 0x100;
        const HAS_ATTRIBUTES: u16 = 0x200;
        let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
        if code == 0 {
            return None;
        }
        let mut refusal = Self::new(Errno::from_raw_os_error(code.wrapping_neg()));
        if flags & HAS_ATTRIBUTES != 0 {
            let request =
                payload.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(16, u32::from_ne_bytes);
            let start = if flags & CAPPED != 0 { 20 } else { 4 + (request as usize).next_multiple_of(4) };
            refusal.explain(payload.get(start..).unwrap_or_default());
        }
        Some(refusal)
    }

    fn explain(&mut self, bytes: &[u8]) {
        for attribute in attributes(bytes) {
            match attribute.kind {
                1 => self.text = Some(attribute.string()),
                2 => self.offset = attribute.u32(),
                _ => {}
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(formatter, "{} ({})", text.trim_end_matches('.'), self.errno),
            None => write!(formatter, "{}", self.errno),
        }
    }
}

/// What can go wrong on a netlink socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be opened or used. Nothing was asked of the kernel.
    #[error("netlink: cannot {action}: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The system's error.
        source: Errno,
    },
    /// The kernel refused the request; nothing was changed.
    #[error("{object}: {refusal}")]
    Refused {
        /// The object and what was to be done to it.
        object: String,
        /// The kernel's reason.
        refusal: Refusal,
    },
    /// Answers were lost (`ENOBUFS`). Retry after reading the state back.
    #[error("{object}: the kernel's answers were lost (ENOBUFS); read the state back")]
    Overrun {
        /// What was being done.
        object: String,
    },
    /// The table changed during each of the attempts to read it whole. Retry.
    #[error("{object}: changed while it was being read, {attempts} times in a row; try again")]
    Interrupted {
        /// The table.
        object: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The kernel did not answer.
    #[error("{object}: no answer from the kernel")]
    NoAnswer {
        /// What was being done.
        object: String,
    },
}

impl Error {
    /// A refusal with the name of the object.
    pub fn refused(object: impl fmt::Display, refusal: Refusal) -> Self {
        Self::Refused { object: object.to_string(), refusal }
    }

    /// The kernel's error number, if the kernel refused the request.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.errno),
            _ => None,
        }
    }

    /// Whether the request was refused because the object is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { refusal, .. } if refusal.is_absent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_body(code: i32, request_length: u32, rest: &[u8]) -> Vec<u8> {
        let mut body = code.to_ne_bytes().to_vec();
        body.extend(request_length.to_ne_bytes());
        body.extend([0; 12]);
        body.extend(rest);
        body
    }

    #[test]
    fn zero_is_an_acknowledgement() {
        assert_eq!(Refusal::decode(0, &error_body(0, 16, &[])), None);
    }

    #[test]
    fn the_kernels_sentence_is_found_behind_capped_and_whole_requests() {
        let mut text = vec![10, 0, 1, 0];
        text.extend(b"oops.\0\0\0");
        let capped = Refusal::decode(0x300, &error_body(-17, 30, &text)).unwrap();
        assert_eq!(capped.text.as_deref(), Some("oops."));
        let mut whole = vec![0xff; 16];
        whole.extend(&text);
        let whole = Refusal::decode(0x200, &error_body(-17, 30, &whole)).unwrap();
        assert_eq!(whole, capped);
        assert_eq!(whole.to_string(), format!("oops ({})", Errno::EXIST));
    }

    #[test]
    fn a_truncated_body_is_no_panic() {
        for length in 0..24 {
            let body = error_body(-1, 400, &[9, 0, 1, 0]);
            let _ = Refusal::decode(0x200, &body[..length]);
        }
    }
}
