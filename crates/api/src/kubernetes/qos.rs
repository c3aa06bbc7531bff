//! Limits on a pod's traffic, from its annotations.

use std::collections::BTreeMap;

use super::FieldError;
use super::pod_address::annotation_path;
use super::quantity;
use crate::scalars::Dscp;
use crate::v3::QoSControls;

const PREFIX: &str = "qos.projectcalico.org/";
const DSCP: &str = "qos.projectcalico.org/dscp";

/// The burst when there is a bandwidth, and nothing said about it: in bits.
const DEFAULT_BURST: i64 = 4 << 30;
/// The burst of packets when there is a packet rate, and nothing said about it.
const DEFAULT_PACKET_BURST: i64 = 5;

type Annotations = BTreeMap<String, String>;
type Bounds = (i64, i64);

const BANDWIDTH: Bounds = (1_000, 1_000_000_000_000_000);
const BURST: Bounds = (1_000, 34_359_738_360);
const PEAKRATE: Bounds = (1_010, 1_010_000_000_000_000);
const MINBURST: Bounds = (1_000, 100_000_000);
const PACKET_RATE: Bounds = (1, 10_000);
const PACKET_BURST: Bounds = (1, 10_000);
const MAX_CONNECTIONS: Bounds = (1, 4_294_967_295);

/// The limits that annotations ask for, if any, and what had to be changed or ignored: a bad limit does not keep a pod
/// from running. Values out of range become the nearest that is in it.
pub(super) fn qos_controls(annotations: &Annotations) -> (Option<QoSControls>, Vec<FieldError>) {
    let mut reader = Reader { annotations, corrections: Vec::new() };
    let ingress = reader.direction("ingress");
    let egress = reader.direction("egress");
    let controls = QoSControls {
        ingress_bandwidth: ingress.bandwidth,
        egress_bandwidth: egress.bandwidth,
        ingress_burst: ingress.burst,
        egress_burst: egress.burst,
        ingress_peakrate: ingress.peakrate,
        egress_peakrate: egress.peakrate,
        ingress_minburst: ingress.minburst,
        egress_minburst: egress.minburst,
        ingress_packet_rate: ingress.packet_rate,
        egress_packet_rate: egress.packet_rate,
        ingress_packet_burst: ingress.packet_burst,
        egress_packet_burst: egress.packet_burst,
        ingress_max_connections: ingress.max_connections,
        egress_max_connections: egress.max_connections,
        dscp: reader.dscp(),
    };
    ((controls != QoSControls::default()).then_some(controls), reader.corrections)
}

struct Limits {
    bandwidth: Option<i64>,
    burst: Option<i64>,
    peakrate: Option<i64>,
    minburst: Option<i64>,
    packet_rate: Option<i64>,
    packet_burst: Option<i64>,
    max_connections: Option<i64>,
}

struct Reader<'a> {
    annotations: &'a Annotations,
    corrections: Vec<FieldError>,
}

impl Reader<'_> {
    fn direction(&mut self, direction: &str) -> Limits {
        let calico = |what: &str| format!("{PREFIX}{direction}{what}");
        let own = calico("Bandwidth");
        let kubernetes = format!("kubernetes.io/{direction}-bandwidth");
        let source = if self.annotations.contains_key(&own) { own } else { kubernetes };
        let bandwidth = self.number(&source, BANDWIDTH);
        let burst = self.dependent(&calico("Burst"), BURST, bandwidth, "bandwidth");
        let peakrate = self.dependent(&calico("Peakrate"), PEAKRATE, bandwidth, "bandwidth");
        let minburst = self.dependent(&calico("Minburst"), MINBURST, bandwidth, "bandwidth");
        let packet_rate = self.number(&calico("PacketRate"), PACKET_RATE);
        let packet_burst = self.dependent(&calico("PacketBurst"), PACKET_BURST, packet_rate, "packet rate");
        Limits {
            bandwidth,
            burst: burst.or(bandwidth.map(|_| DEFAULT_BURST)),
            peakrate: self.above(&calico("Peakrate"), peakrate, bandwidth),
            minburst,
            packet_rate,
            packet_burst: packet_burst.or(packet_rate.map(|_| DEFAULT_PACKET_BURST)),
            max_connections: self.number(&calico("MaxConnections"), MAX_CONNECTIONS),
        }
    }

    fn number(&mut self, name: &str, (least, most): Bounds) -> Option<i64> {
        let text = self.annotations.get(name)?;
        let Some(value) = quantity::parse(text) else {
            self.correct(name, "is not a quantity such as 10M; ignored".to_owned());
            return None;
        };
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        let clamped = value.clamp(least, most);
        if clamped != value {
            self.correct(name, format!("is not within {least}..{most}; {clamped} is used"));
        }
        Some(clamped)
    }

    /// A number that means nothing without another.
    fn dependent(&mut self, name: &str, bounds: Bounds, other: Option<i64>, needs: &str) -> Option<i64> {
        if other.is_some() {
            return self.number(name, bounds);
        }
        if self.annotations.contains_key(name) {
            self.correct(name, format!("needs a {needs} in the same direction; ignored"));
        }
        None
    }

    fn above(&mut self, name: &str, peakrate: Option<i64>, bandwidth: Option<i64>) -> Option<i64> {
        let too_low = peakrate.is_some() && peakrate <= bandwidth;
        if too_low {
            self.correct(name, "has to be above the bandwidth; ignored".to_owned());
        }
        peakrate.filter(|_| !too_low)
    }

    fn dscp(&mut self) -> Option<Dscp> {
        let dscp = self.annotations.get(DSCP)?.to_ascii_uppercase().parse::<Dscp>();
        dscp.map_err(|error| self.correct(DSCP, format!("{}; ignored", error.reason))).ok()
    }

    fn correct(&mut self, name: &str, reason: String) {
        let value = self.annotations.get(name).cloned().unwrap_or_default();
        self.corrections.push(FieldError::bad_value(annotation_path(name), value, reason));
    }
}
