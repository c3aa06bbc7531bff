use super::object;
use crate::rules::{Place, check_range};
use crate::scalars::Dscp;

object! {
    /// Limits on an endpoint's traffic. Rates in bit/s, bursts in bits unless said otherwise; absent is unlimited.
    #[derive(Default, Eq)]
    pub struct QoSControls {
        /// Rate to the endpoint, 1 kbit/s .. 1 Pbit/s.
        ingress_bandwidth: Option<i64>,
        /// Rate from the endpoint.
        egress_bandwidth: Option<i64>,
        /// Burst to the endpoint, 1000..34359738360; 4294967296 if absent.
        ingress_burst: Option<i64>,
        /// Burst from the endpoint.
        egress_burst: Option<i64>,
        /// Peak rate to the endpoint, above its bandwidth.
        ingress_peakrate: Option<i64>,
        /// Peak rate from the endpoint.
        egress_peakrate: Option<i64>,
        /// Burst at peak rate to the endpoint, in bytes, 1000..100000000; the MTU if absent.
        ingress_minburst: Option<i64>,
        /// Burst at peak rate from the endpoint, in bytes.
        egress_minburst: Option<i64>,
        /// Packets per second to the endpoint, 1..10000.
        ingress_packet_rate: Option<i64>,
        /// Packets per second from the endpoint.
        egress_packet_rate: Option<i64>,
        /// Burst of packets to the endpoint, 1..10000; 5 if absent.
        ingress_packet_burst: Option<i64>,
        /// Burst of packets from the endpoint.
        egress_packet_burst: Option<i64>,
        /// Connections to the endpoint at one time, 1..4294967295.
        ingress_max_connections: Option<i64>,
        /// Connections from the endpoint at one time.
        egress_max_connections: Option<i64>,
        /// DSCP of packets that leave the cluster.
        dscp: Option<Dscp>,
    }
}

const KILO: i64 = 1_000;
const MEGA: i64 = 1_000_000;
const PETA: i64 = 1_000_000_000_000_000;

/// Burst if a bandwidth is given and no burst, in bits.
pub const DEFAULT_BURST: i64 = 4_294_967_296;
/// Burst if a packet rate is given and no burst, in packets.
pub const DEFAULT_PACKET_BURST: i64 = 5;

/// Checks the limits of one endpoint.
pub(crate) fn check_qos(qos: &QoSControls, at: &Place<'_>) {
    let ranges = [
        (qos.ingress_bandwidth, "ingressBandwidth", KILO, PETA),
        (qos.egress_bandwidth, "egressBandwidth", KILO, PETA),
        (qos.ingress_burst, "ingressBurst", KILO, 34_359_738_360),
        (qos.egress_burst, "egressBurst", KILO, 34_359_738_360),
        (qos.ingress_peakrate, "ingressPeakrate", 1_010, PETA / 100 * 101),
        (qos.egress_peakrate, "egressPeakrate", 1_010, PETA / 100 * 101),
        (qos.ingress_minburst, "ingressMinburst", KILO, 100 * MEGA),
        (qos.egress_minburst, "egressMinburst", KILO, 100 * MEGA),
        (qos.ingress_packet_rate, "ingressPacketRate", 1, 10 * KILO),
        (qos.egress_packet_rate, "egressPacketRate", 1, 10 * KILO),
        (qos.ingress_packet_burst, "ingressPacketBurst", 1, 10 * KILO),
        (qos.egress_packet_burst, "egressPacketBurst", 1, 10 * KILO),
        (qos.ingress_max_connections, "ingressMaxConnections", 1, u32::MAX.into()),
        (qos.egress_max_connections, "egressMaxConnections", 1, u32::MAX.into()),
    ];
    for (number, field, first, last) in ranges {
        if let Some(number) = number {
            check_range(number, first, last, &at.field(field));
        }
    }
    for (peak, field, bandwidth) in [
        (qos.ingress_peakrate, "ingressPeakrate", qos.ingress_bandwidth),
        (qos.egress_peakrate, "egressPeakrate", qos.egress_bandwidth),
    ] {
        if let Some(peak) = peak.filter(|peak| bandwidth.is_none_or(|bandwidth| *peak <= bandwidth)) {
            at.field(field).refuse(peak, "needs a bandwidth, and has to be above it");
        }
    }
}
