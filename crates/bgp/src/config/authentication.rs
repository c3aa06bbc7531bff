//! How a TCP connection proves whose it is.

use std::fmt;

/// The longest password or key that Linux takes (`TCP_MD5SIG_MAXKEYLEN`, `TCP_AO_MAXKEYLEN` in `linux/tcp.h`).
const LONGEST: usize = 80;

/// A password or key: 1 to 80 octets. Neither `Debug` nor any message shows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(Vec<u8>);

/// A password that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing at all.
    #[error("the password is empty: give it 1 to 80 octets, or none at all")]
    Empty,
    /// More than the kernel takes.
    #[error("the password has {0} octets, but Linux takes 80 at most: choose a shorter one at both ends")]
    TooLong(usize),
}

impl Secret {
    /// A password, as the peer has it, octet for octet.
    ///
    /// # Errors
    /// It is empty, or longer than 80 octets.
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Self, SecretError> {
        let octets = octets.into();
        match octets.len() {
            0 => Err(SecretError::Empty),
            1..=LONGEST => Ok(Self(octets)),
            more => Err(SecretError::TooLong(more)),
        }
    }

    /// The octets, for the kernel.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// What every segment of a session is signed with. The two exclude each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authentication {
    /// TCP MD5 signatures (RFC 2385): one password. Calico's `BGPPeer.password`.
    Md5(Secret),
    /// The TCP Authentication Option (RFC 5925), where the kernel has it (Linux 6.7 with `CONFIG_TCP_AO`). The first
    /// key is the one that we sign with.
    Ao(Vec<AoKey>),
}

/// A master key tuple of TCP-AO (RFC 5925, section 3.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AoKey {
    /// KeyID of what we send.
    pub send_id: u8,
    /// KeyID of what we receive.
    pub receive_id: u8,
    /// How segments are signed (RFC 5926).
    pub algorithm: AoAlgorithm,
    /// The master key.
    pub key: Secret,
}

/// MAC and key derivation (RFC 5926, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AoAlgorithm {
    /// HMAC-SHA-1-96.
    HmacSha1,
    /// AES-128-CMAC-96.
    Aes128Cmac,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let secret = Secret::new("rosebud").unwrap();
        let shown = format!("{secret:?} {:?}", Authentication::Md5(secret.clone()));
        assert!(!shown.contains("rosebud"), "{shown}");
    }

    #[test]
    fn a_password_has_one_to_eighty_octets() {
        assert_eq!(Secret::new(""), Err(SecretError::Empty));
        assert!(Secret::new("x".repeat(80)).is_ok());
        assert_eq!(Secret::new("x".repeat(81)), Err(SecretError::TooLong(81)));
    }
}
