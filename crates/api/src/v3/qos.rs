use super::object;
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
