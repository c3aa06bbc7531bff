//! The control packet (RFC 5880, section 4.1).

use std::fmt;
use std::time::Duration;

/// Octets of a control packet without authentication.
pub const LENGTH: usize = 24;

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// The state of a session (RFC 5880, section 6.2), as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Held down by its operator. Says nothing about the path.
    AdminDown,
    /// Nothing is heard.
    Down,
    /// We hear the other end, and do not know yet whether it hears us.
    Init,
    /// Both ends hear each other.
    Up,
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        })
    }
}

/// Why a session went down last (RFC 5880, section 4.1); numbers without a name are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// Nothing to say.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const TIME_EXPIRED: Self = Self(1);
    /// The other end said that it is down.
    pub const NEIGHBOUR_DOWN: Self = Self(3);
    /// The operator holds the session down.
    pub const ADMIN_DOWN: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbour signalled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

/// A control packet without authentication.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-----+---------+---+-+-+-+-+-+-+---------------+---------------+
/// |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
/// +-----+---------+---+-+-+-+-+-+-+---------------+---------------+
/// |                       My Discriminator                        |
/// |                      Your Discriminator                       |
/// |        Desired Min TX Interval, microseconds                  |
/// |        Required Min RX Interval, microseconds                 |
/// |        Required Min Echo RX Interval, microseconds            |
/// +---------------------------------------------------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlPacket {
    /// Why the sender's session went down last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// The sender wants its new intervals confirmed.
    pub poll: bool,
    /// The answer to a poll.
    pub is_final: bool,
    /// The sender's packets go on when its control plane dies.
    pub control_plane_independent: bool,
    /// After how many missed packets the receiver takes the session for down. Not 0.
    pub multiplier: u8,
    /// The sender's name for the session. Not 0.
    pub my_discriminator: u32,
    /// The receiver's name for the session, as far as the sender knows it; 0 only while Down or AdminDown.
    pub your_discriminator: u32,
    /// How often the sender wants to send.
    pub desired_min_tx: Duration,
    /// How often the sender can receive; zero: it wants no packets at all.
    pub required_min_rx: Duration,
    /// How often the sender can receive echo packets; zero: not at all.
    pub required_min_echo_rx: Duration,
}

/// Why a packet is thrown away. Nothing else happens because of it (RFC 5880, section 6.8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// It is shorter than a control packet.
    #[error("{0} octets are fewer than the 24 of a control packet")]
    Short(usize),
    /// Another version of the protocol.
    #[error("version {0} is not 1")]
    Version(u8),
    /// The length in it is not that of a packet of its kind, or longer than what came.
    #[error("length {length} in a packet of {octets} octets")]
    Length {
        /// What the packet says.
        length: u8,
        /// What came.
        octets: usize,
    },
    /// Detect Mult is 0.
    #[error("Detect Mult is 0")]
    Multiplier,
    /// The bit M is reserved.
    #[error("the bit M (multipoint) is set")]
    Multipoint,
    /// My Discriminator is 0.
    #[error("My Discriminator is 0")]
    MyDiscriminator,
    /// Your Discriminator may be 0 only in the states Down and AdminDown.
    #[error("Your Discriminator is 0 in state {0}")]
    YourDiscriminator(State),
    /// We do no authentication: switch it off for this session at the other end.
    #[error("the packet is authenticated (bit A), which is not supported: switch it off at the peer")]
    Authentication,
    /// We do not let the other end fall silent: switch demand mode off there.
    #[error("the peer asks for demand mode (bit D), which is refused: switch it off at the peer")]
    Demand,
}

impl ControlPacket {
    /// Reads the payload of a UDP packet; what follows the packet is not looked at.
    ///
    /// # Errors
    /// The packet has to be thrown away (RFC 5880, section 6.8.6), or asks for what we do not do.
    pub fn decode(bytes: &[u8]) -> Result<Self, PacketError> {
        let Some(packet) = bytes.first_chunk::<LENGTH>() else { return Err(PacketError::Short(bytes.len())) };
        let (flags, length) = (packet[1], packet[3]);
        if packet[0] >> 5 != VERSION {
            return Err(PacketError::Version(packet[0] >> 5));
        }
        let least = if flags & AUTHENTICATION == 0 { LENGTH } else { LENGTH + 2 };
        if usize::from(length) < least || usize::from(length) > bytes.len() {
            return Err(PacketError::Length { length, octets: bytes.len() });
        }
        let field = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four octets"));
        let time = |at: usize| Duration::from_micros(u64::from(field(at)));
        let decoded = Self {
            diagnostic: Diagnostic(packet[0] & 0x1f),
            state: State::from_bits(flags >> 6),
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            multiplier: packet[2],
            my_discriminator: field(4),
            your_discriminator: field(8),
            desired_min_tx: time(12),
            required_min_rx: time(16),
            required_min_echo_rx: time(20),
        };
        decoded.check(flags).map(|()| decoded)
    }

    fn check(&self, flags: u8) -> Result<(), PacketError> {
        if self.multiplier == 0 {
            return Err(PacketError::Multiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(PacketError::Multipoint);
        }
        if self.my_discriminator == 0 {
            return Err(PacketError::MyDiscriminator);
        }
        if self.your_discriminator == 0 && matches!(self.state, State::Init | State::Up) {
            return Err(PacketError::YourDiscriminator(self.state));
        }
        if flags & AUTHENTICATION != 0 {
            return Err(PacketError::Authentication);
        }
        if flags & DEMAND != 0 {
            return Err(PacketError::Demand);
        }
        Ok(())
    }

    /// The bytes. Intervals above 71 minutes are sent as that, the longest there is.
    pub fn encode(&self) -> [u8; LENGTH] {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX).to_be_bytes();
        let mut packet = [0; LENGTH];
        packet[0] = VERSION << 5 | self.diagnostic.0 & 0x1f;
        packet[1] = self.state.bits() << 6
            | bit(self.poll, POLL)
            | bit(self.is_final, FINAL)
            | bit(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT);
        packet[2] = self.multiplier;
        packet[3] = 24;
        packet[4..8].copy_from_slice(&self.my_discriminator.to_be_bytes());
        packet[8..12].copy_from_slice(&self.your_discriminator.to_be_bytes());
        packet[12..16].copy_from_slice(&micros(self.desired_min_tx));
        packet[16..20].copy_from_slice(&micros(self.required_min_rx));
        packet[20..24].copy_from_slice(&micros(self.required_min_echo_rx));
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::TIME_EXPIRED,
            state: State::Up,
            poll: true,
            is_final: false,
            control_plane_independent: true,
            multiplier: 3,
            my_discriminator: 0x0102_0304,
            your_discriminator: 0x0a0b_0c0d,
            desired_min_tx: Duration::from_millis(50),
            required_min_rx: Duration::from_millis(60),
            required_min_echo_rx: Duration::ZERO,
        }
    }

    /// Laid out by hand from RFC 5880, section 4.1: version 1, diagnostic 1; Up, P and C; 50,000 and 60,000 microseconds.
    const BYTES: [u8; LENGTH] = [
        0x21, 0xe8, 3, 24, 1, 2, 3, 4, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0xc3, 0x50, 0, 0, 0xea, 0x60, 0, 0, 0, 0,
    ];

    #[test]
    fn a_packet_is_laid_out_as_the_standard_draws_it() {
        assert_eq!(packet().encode(), BYTES);
        assert_eq!(ControlPacket::decode(&BYTES), Ok(packet()));
    }

    #[test]
    fn each_fault_of_the_standard_is_named() {
        let broken = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = BYTES.to_vec();
            change(&mut bytes);
            ControlPacket::decode(&bytes).expect_err("it is broken")
        };
        assert_eq!(broken(&|bytes| bytes.truncate(23)), PacketError::Short(23));
        assert_eq!(broken(&|bytes| bytes[0] = 0x41), PacketError::Version(2));
        assert_eq!(broken(&|bytes| bytes[3] = 23), PacketError::Length { length: 23, octets: 24 });
        assert_eq!(broken(&|bytes| bytes[3] = 25), PacketError::Length { length: 25, octets: 24 });
        assert_eq!(broken(&|bytes| bytes[1] |= 4), PacketError::Length { length: 24, octets: 24 });
        assert_eq!(broken(&|bytes| bytes[2] = 0), PacketError::Multiplier);
        assert_eq!(broken(&|bytes| bytes[1] |= 1), PacketError::Multipoint);
        assert_eq!(broken(&|bytes| bytes[4..8].fill(0)), PacketError::MyDiscriminator);
        assert_eq!(broken(&|bytes| bytes[8..12].fill(0)), PacketError::YourDiscriminator(State::Up));
        assert_eq!(broken(&|bytes| bytes[1] |= 2), PacketError::Demand);
        let authenticated = |bytes: &mut Vec<u8>| {
            bytes[1] |= 4;
            bytes[3] = 26;
            bytes.extend_from_slice(&[1, 2]);
        };
        assert_eq!(broken(&authenticated), PacketError::Authentication);
    }

    #[test]
    fn a_discriminator_may_be_unknown_while_down() {
        let mut bytes = BYTES;
        bytes[1] = 0x40;
        bytes[8..12].fill(0);
        assert_eq!(ControlPacket::decode(&bytes).expect("it is legal").state, State::Down);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_packet_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            if let Ok(packet) = ControlPacket::decode(&bytes) {
                proptest::prop_assert_eq!(ControlPacket::decode(&packet.encode()), Ok(packet));
            }
        }

        #[test]
        fn what_looks_nearly_right_gives_a_packet_or_an_error(
            change in proptest::collection::vec((0..26_usize, proptest::num::u8::ANY), 0..4)
        ) {
            let mut bytes = [BYTES.as_slice(), &[0, 0]].concat();
            change.into_iter().for_each(|(at, octet)| bytes[at] = octet);
            if let Ok(packet) = ControlPacket::decode(&bytes) {
                proptest::prop_assert_eq!(ControlPacket::decode(&packet.encode()), Ok(packet));
            }
        }
    }
}
