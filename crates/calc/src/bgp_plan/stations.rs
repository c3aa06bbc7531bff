//! Monitoring stations (`bmpStations` of BGPConfiguration).

use std::collections::BTreeMap;
use std::time::Duration;

use api::selector::Selector;
use api::{BMPStation, BMPView};
use bgp::config::{StationConfig, StationView};

use super::planner::BgpPlanner;

impl BgpPlanner {
    /// The stations that this node tells, by address and port.
    pub(super) fn stations(&self) -> BTreeMap<String, StationConfig> {
        let Some((_, spec)) = self.deciding_configuration(|spec| !spec.bmp_stations.is_empty()) else {
            return BTreeMap::new();
        };
        let ours = spec.bmp_stations.iter().filter(|station| self.tells(station));
        ours.map(|station| (station.listens_on().to_string(), config(station))).collect()
    }

    /// A selector that cannot be read selects nobody.
    fn tells(&self, station: &BMPStation) -> bool {
        let labels = self.nodes.get(&self.node_name).map(|us| us.labels.clone()).unwrap_or_default();
        let selector = station.node_selector.as_str();
        selector.is_empty() || Selector::parse(selector).is_ok_and(|selector| selector.matches(&labels))
    }
}

fn config(station: &BMPStation) -> StationConfig {
    let view = |view| match view {
        BMPView::PrePolicy => StationView::PrePolicy,
        BMPView::PostPolicy => StationView::PostPolicy,
        BMPView::LocRIB => StationView::LocRib,
    };
    let nanos =
        station.statistics_interval.map(|interval| u64::try_from(interval.nanos()).unwrap_or_default());
    StationConfig {
        address: station.listens_on(),
        views: station.views().into_iter().map(view).collect(),
        statistics: nanos.map(Duration::from_nanos),
    }
}
