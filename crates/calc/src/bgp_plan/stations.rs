//! Monitoring stations (`bmpStations` of BGPConfiguration).

use std::collections::BTreeMap;

use api::{BMPStation, BMPView};
use bgp::config::{StationConfig, StationView};

use super::peers::selects;
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

    /// A node that is not there has no labels.
    fn tells(&self, station: &BMPStation) -> bool {
        let none = BTreeMap::new();
        let labels = self.nodes.get(&self.node_name).map_or(&none, |us| &us.labels);
        station.node_selector.is_empty() || selects(&station.node_selector, labels)
    }
}

fn config(station: &BMPStation) -> StationConfig {
    let view = |view| match view {
        BMPView::PrePolicy => StationView::PrePolicy,
        BMPView::PostPolicy => StationView::PostPolicy,
        BMPView::LocRIB => StationView::LocRib,
    };
    StationConfig {
        address: station.listens_on(),
        views: station.views().into_iter().map(view).collect(),
        statistics: station.statistics_interval.map(|interval| interval.to_duration().unwrap_or_default()),
    }
}
