//! BGP of this node: the datastore's plan as the speaker's configuration ([`plan`]), its routes for the agent, and how its
//! peers are for health and metrics. Sockets and time are the business of [`crate::speaker`].

mod metrics;
mod passwords;
mod plan;
mod questions;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bgp::session::SessionState;
use bgp::{PeerStatus, SessionStatus, Shutdown, Speaker, Start};
use calc::bgp_plan::{BgpPlan, SessionFeedback, SessionWatch};
use kernel::Rtnetlink;
use kernel::ownership::ROUTE_BIRD;
use kernel::route::KernelRoute;

use crate::agent::{self, AgentHandle};
use crate::health::{Health, Reporter};
use crate::speaker::{Freezer, Inheritance, RouteEvent, SpeakerHandle, StatusQuery};
use crate::telemetry;
use passwords::PasswordFiles;
use plan::Planned;
use questions::Imagine;

pub(crate) use metrics::BgpMetrics;
pub(crate) use passwords::FOLDER as PASSWORDS;
pub(crate) use questions::Questions;

/// So long after the start every peer has to be Established for the node to be ready, later one is enough
/// (control-plane.md 4.5).
const STARTUP: Duration = Duration::from_secs(30);

/// The running speaker.
pub(crate) struct Bgp {
    speaker: SpeakerHandle,
    health: Reporter,
    started: Instant,
    /// Before there has been a plan, having no peers means nothing.
    planned: Arc<Mutex<Planned>>,
    watch: Mutex<SessionWatch>,
}

/// What there is to know of the running speaker.
pub(crate) struct BgpFacts {
    pub(crate) speaker: StatusQuery,
    /// When it started.
    pub(crate) started: Instant,
    planned: Arc<Mutex<Planned>>,
}

impl BgpFacts {
    /// When its configuration last changed; `None`: it has none.
    pub(crate) fn configured_at(&self) -> Option<Instant> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).configured_at()
    }
}

impl Bgp {
    /// Prepares the speaker, which takes plans and does nothing with them before it is told how to begin.
    pub(crate) fn prepare(
        routes: impl FnMut(Vec<RouteEvent>) + Send + 'static,
        passwords: PathBuf,
        health: &Health,
    ) -> Result<Self> {
        let speaker = SpeakerHandle::prepare(routes).context("cannot start the BGP thread")?;
        let planned = Planned::new(speaker.configurator(), PasswordFiles(passwords), health.clone());
        let health = health.register("bgp", None);
        health.not_ready("no plan yet: waiting for the datastore to be in sync");
        let planned = Arc::new(Mutex::new(planned));
        Ok(Self { speaker, health, started: Instant::now(), planned, watch: Mutex::default() })
    }

    /// Begins: in the place of another process, or as `start` says.
    pub(crate) fn begin(
        &self,
        inheritance: Option<Inheritance>,
        beginning: impl FnOnce() -> Result<Beginning>,
    ) -> Result<()> {
        match inheritance {
            Some(inheritance) => {
                tracing::info!(
                    sessions = inheritance.sessions.len(),
                    "BGP goes on with another process' sessions"
                );
                self.speaker.take_over(inheritance);
            }
            None => {
                let Beginning { start, idle } = beginning()?;
                tracing::info!(?start, "BGP starts");
                self.planned.lock().unwrap_or_else(PoisonError::into_inner).set_idle(idle);
                self.speaker.start(start);
            }
        }
        Ok(())
    }

    /// Whether it has a configuration to begin with.
    pub(crate) fn is_planned(&self) -> bool {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).configured_at().is_some()
    }

    /// For whoever wants to have it hold still.
    pub(crate) fn freezer(&self) -> Freezer {
        self.speaker.freezer()
    }

    /// Where plans go.
    pub(crate) fn plan_receiver(&self) -> Box<dyn FnMut(&BgpPlan) + Send> {
        let planned = self.planned.clone();
        Box::new(move |plan| planned.lock().unwrap_or_else(PoisonError::into_inner).on_plan(plan))
    }

    /// For whoever wants to ask.
    pub(crate) fn peers(&self) -> StatusQuery {
        self.speaker.query()
    }

    /// For the node's status.
    pub(crate) fn facts(&self) -> BgpFacts {
        BgpFacts { speaker: self.speaker.query(), started: self.started, planned: self.planned.clone() }
    }

    /// Who answers `calicoctl bgp`.
    pub(crate) fn questions(&self, imagine: Imagine) -> Questions {
        Questions { speaker: self.speaker.query(), planned: self.planned.clone(), imagine }
    }

    /// Says how BGP is, to the node's health, and gives what the plan has to know if that is new.
    pub(crate) fn report(&self) -> Option<SessionFeedback> {
        if !self.speaker.is_running() {
            self.health.not_ready("its thread has ended");
            return None;
        }
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.look_again(Instant::now());
        let plan = planned.plan()?.clone();
        drop(planned);
        // One that has not begun, or is busy for long, has nothing new to say.
        let peers = self.speaker.query().with(Speaker::status)?;
        let up = peers.iter().filter(|peer| peer.state == SessionState::Established).count();
        telemetry::gauge(telemetry::BGP_PEERS, peers.len());
        telemetry::gauge(telemetry::BGP_ESTABLISHED, up);
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let news = watch.look(&plan, peers.iter().map(SessionStatus::from), Instant::now());
        let spared: BTreeSet<_> =
            plan.peers.iter().filter(|peer| !peer.is_missed()).map(calc::bgp_plan::Peer::id).collect();
        let peers: Vec<_> = peers.into_iter().filter(|peer| !spared.contains(&peer.id)).collect();
        let up = peers.iter().filter(|peer| peer.state == SessionState::Established).count();
        match not_ready(&peers, up, self.started.elapsed()) {
            Some(cause) => self.health.not_ready(cause),
            None => self.health.ready(),
        }
        news
    }

    /// Stops, and waits until the connections are closed.
    pub(crate) fn stop(self, shutdown: Shutdown) {
        self.speaker.stop(shutdown);
    }
}

/// Hands routes to the agent.
pub(crate) fn routes_to(agent: AgentHandle) -> impl FnMut(Vec<RouteEvent>) + Send + 'static {
    move |events| agent.send(agent::Event::Bgp(events))
}

/// control-plane.md 4.5: without peers ready; at first all have to be up, later one.
fn not_ready(peers: &[PeerStatus], up: usize, age: Duration) -> Option<String> {
    let needed = if age < STARTUP { peers.len() } else { peers.len().min(1) };
    if up >= needed {
        return None;
    }
    let down = peers.iter().filter(|peer| peer.state != SessionState::Established);
    let causes: Vec<_> =
        down.take(3).map(|peer| format!("{} is {}", peer.address, peer.state_and_info().1)).collect();
    Some(format!("{up} of {} peers are Established: {}", peers.len(), causes.join(", ")))
}

/// How a speaker begins.
pub(crate) struct Beginning {
    start: Start,
    /// Addresses of workloads that need not be heard before routes are selected: the kernel has none behind them.
    idle: BTreeSet<IpAddr>,
}

impl From<Start> for Beginning {
    /// Every workload is waited for that is to be a peer.
    fn from(start: Start) -> Self {
        Self { start, idle: BTreeSet::new() }
    }
}

/// How a speaker begins that puts routes into the kernel: those that an earlier process left there make it a restart. Peers are
/// told, and nothing of them is withdrawn before BGP has heard everyone.
pub(crate) fn after_earlier_processes() -> Result<Beginning> {
    let routes = Rtnetlink::open()?.main_routes().context("cannot read the kernel's routes")?;
    let left_behind = routes.iter().any(|route| route.protocol == ROUTE_BIRD);
    let start = if left_behind { Start::Restarting } else { Start::Fresh };
    Ok(Beginning { start, idle: idle(&routes) })
}

/// The hosts behind devices over which no route of BGP leads.
fn idle(routes: &[KernelRoute]) -> BTreeSet<IpAddr> {
    let devices = |route: &KernelRoute| route.hops.iter().filter_map(|hop| hop.device).collect::<Vec<_>>();
    let (of_bgp, others): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.protocol == ROUTE_BIRD);
    let busy: BTreeSet<u32> = of_bgp.into_iter().flat_map(devices).collect();
    let is_idle = |route: &&KernelRoute| {
        let is_host = route.destination.prefix_len() == route.destination.max_prefix_len();
        let devices = devices(route);
        is_host && !devices.is_empty() && devices.iter().all(|device| !busy.contains(device))
    };
    others.into_iter().filter(is_idle).map(|route| route.destination.addr()).collect()
}

#[cfg(test)]
mod tests {
    use kernel::ownership::ROUTE_FELIX;
    use kernel::route::{Hop, MAIN_TABLE, RouteKind};

    use super::*;

    fn route(destination: &str, gateway: Option<&str>, device: u32, protocol: u8) -> KernelRoute {
        let gateway = gateway.map(|text| text.parse().unwrap());
        KernelRoute {
            destination: destination.parse().unwrap(),
            table: MAIN_TABLE,
            metric: 0,
            tos: 0,
            protocol,
            kind: RouteKind::Unicast,
            hops: vec![Hop { gateway, device: Some(device), onlink: false, weight: 1 }],
            source: None,
        }
    }

    /// Its next hop may be a third one's.
    #[test]
    fn a_workload_is_idle_when_nothing_of_bgp_leads_over_its_device() {
        let routes = [
            route("10.65.0.2/32", None, 7, ROUTE_FELIX),
            route("10.65.0.3/32", None, 8, ROUTE_FELIX),
            route("10.65.0.4/32", None, 9, ROUTE_FELIX),
            route("10.80.0.0/24", Some("10.65.0.2"), 7, ROUTE_BIRD),
            route("10.81.0.0/24", Some("192.0.2.1"), 8, ROUTE_BIRD),
            route("10.0.0.0/24", None, 2, 2),
        ];
        assert_eq!(idle(&routes), ["10.65.0.4".parse().unwrap()].into());
    }
}
