//! A limit as users mean it, and as the kernel keeps it.

/// The kernel's unit of time in messages of traffic control (`PSCHED_SHIFT`), in nanoseconds.
const TICK: u128 = 64;
const SECOND: u128 = 1_000_000_000;
/// How long a packet waits at most behind a burst, in milliseconds; what would wait longer is dropped.
const LATENCY: u128 = 25;
/// Octets of an Ethernet header, which an interface's MTU leaves out.
const HEADER: u64 = 14;

/// A token bucket: octets pass at a rate, and so many at once when there was a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Octets per second, not 0.
    pub rate: u64,
    /// Octets at once. A bucket that is smaller than a packet would let none pass: it has room for one at least.
    pub burst: u64,
    /// Octets per second during a burst, above `rate`.
    pub peak: Option<u64>,
    /// Octets at once at that rate, but for room for a packet at least.
    pub peak_burst: Option<u32>,
}

/// What the kernel keeps of a bucket, in its units (`struct tc_tbf_qopt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenBucket {
    /// Octets per second.
    pub(super) rate: u64,
    /// Octets per second; 0 for none.
    pub(super) peak: u64,
    /// Octets that may wait.
    pub(super) limit: u32,
    /// The time that a burst takes at the rate, in ticks.
    pub(super) buffer: u32,
    /// The time that a burst takes at the peak rate, in ticks.
    pub(super) peak_buffer: u32,
}

impl Bucket {
    /// For an interface with this MTU.
    pub(super) fn in_kernel(self, mtu: u32) -> TokenBucket {
        let packet = u64::from(mtu) + HEADER;
        let (rate, burst) = (self.rate.max(1), self.burst.max(packet));
        let buffer = ticks(burst, rate);
        // The time of a very large burst at a low rate does not fit; then neither may so much wait.
        let burst = u128::from(burst).min(octets(buffer, rate));
        let waiting = u128::from(rate) * LATENCY / 1000 + burst;
        let peak = self.peak.unwrap_or(0);
        let peak_burst = self.peak_burst.map_or(packet, |burst| u64::from(burst).max(packet));
        TokenBucket {
            rate,
            peak,
            limit: u32::try_from(waiting).unwrap_or(u32::MAX),
            buffer,
            peak_buffer: if peak == 0 { 0 } else { ticks(peak_burst, peak) },
        }
    }
}

/// What passes at a rate in so many ticks.
fn octets(ticks: u32, rate: u64) -> u128 {
    u128::from(ticks) * TICK * u128::from(rate) / SECOND
}

/// Not less than the time, so that the packet that it is for still fits.
fn ticks(octets: u64, rate: u64) -> u32 {
    let ticks = (u128::from(octets) * SECOND).div_ceil(u128::from(rate) * TICK);
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64, burst: u64) -> Bucket {
        Bucket { rate, burst, peak: None, peak_burst: None }
    }

    #[test]
    fn a_burst_becomes_the_time_that_it_takes_and_the_queue_25_ms_more() {
        let kept = bucket(1_000_000, 10_000).in_kernel(1500);
        assert_eq!((kept.buffer, kept.limit), (156_250, 35_000), "10 ms in ticks of 64 ns");
        let peak = Bucket { peak: Some(2_000_000), peak_burst: Some(4_000), ..bucket(1_000_000, 10_000) };
        assert_eq!((peak.in_kernel(1500).peak, peak.in_kernel(1500).peak_buffer), (2_000_000, 31_250));
    }

    #[test]
    fn the_smallest_bucket_has_room_for_a_packet_and_the_largest_does_not_overflow() {
        assert_eq!(bucket(125, 125).in_kernel(1500).buffer, ticks(1514, 125));
        let slow = bucket(125, 1 << 32).in_kernel(1500);
        assert_eq!((slow.buffer, slow.limit), (u32::MAX, 34_359 + 3), "275 seconds at most, and 25 ms");
        assert_eq!(bucket(125_000_000_000_000, 1 << 29).in_kernel(1500).limit, u32::MAX);
        assert!(octets(ticks(1514, 999_999_937), 999_999_937) >= 1514, "rounded up");
    }
}
