//! Answers to `calicoctl bgp`: questions over the node's socket, put to the speaker a page at a time.
//!
//! The speaker's thread only looks; turning what it saw into words is done on the thread that asks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use api::documents;
use api::wire::bgp::{
    Cursor as WireCursor, DumpPage, DumpQuestion, Event, KernelView, PeersPage, PeersQuestion, Question,
    Reply, RoutesPage, RoutesQuestion, View as WireView, WhatIfPage, WhatIfQuestion, Why, WhyQuestion,
};
use bgp::observe::Timestamp;
use bgp::query::{Cursor, Explanation, Hypothesis, PeerError, RouteFilter, Tally, View};
use bgp::{PeerId, PeerStatus, Speaker, SpeakerConfig};
use calc::bgp_plan::BgpPlan;
use datastore::Update;
use ipnet::IpNet;
use kernel::Rtnetlink;

use super::plan::Planned;
use super::words;
use crate::speaker::StatusQuery;

/// Sessions in a page.
const PEERS: usize = 200;
/// Pages of the table that are counted at most: more prefixes than anybody has.
const TALLY_PAGES: usize = 100_000;

/// Makes the plan that there would be with some rows.
pub(crate) type Imagine = Box<dyn Fn(Vec<Update>) -> Option<BgpPlan> + Send + Sync>;

/// Who answers.
pub(crate) struct Questions {
    pub(super) speaker: StatusQuery,
    pub(super) planned: Arc<Mutex<Planned>>,
    pub(super) imagine: Imagine,
}

/// Why there is no answer; a line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuestionError {
    /// The speaker is not there yet, or too busy.
    #[error(
        "BGP does not answer: it has no configuration yet, or is too busy; see `calicoctl node status`, and try again"
    )]
    NoAnswer,
    /// A peer that does not exist.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A place that does not exist.
    #[error(transparent)]
    Cursor(#[from] bgp::query::CursorError),
    /// Not a prefix or address.
    #[error("{0:?} is neither a prefix, as in 10.65.0.0/26, nor an address")]
    Destination(String),
    /// No route has the address.
    #[error("BGP has no route that {0} lies in; `ip route get {0}` says what the kernel does with it")]
    NoRoute(IpAddr),
    /// A resource that cannot be used.
    #[error("{0}")]
    Resource(String),
    /// The plan could not be made.
    #[error("the thread that keeps BGP's plan does not answer; try again")]
    NoPlan,
    /// The plan lacks an identifier.
    #[error(
        "with these resources this node has no BGP identifier; give it an IPv4 address, or set CALICO_ROUTER_ID"
    )]
    NoIdentifier,
}

type Answer<T> = Result<T, QuestionError>;

impl Questions {
    /// Answers a question.
    pub(crate) fn answer(&self, question: Question) -> Answer<Reply> {
        Ok(match question {
            Question::Peers(question) => Reply::Peers(self.peers(question)?),
            Question::Routes(question) => Reply::Routes(self.routes(question)?),
            Question::Why(question) => Reply::Why(Box::new(self.why(question)?)),
            Question::WhatIf(question) => Reply::WhatIf(Box::new(self.what_if(&question)?)),
            Question::Dump(question) => Reply::Dump(self.dump(&question)?),
            Question::Stations => {
                let stations = self.inspect(Speaker::stations)?;
                Reply::Stations(stations.into_iter().map(words::station).collect())
            }
        })
    }

    fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&Speaker) -> T + Send + 'static) -> Answer<T> {
        self.speaker.with(look).ok_or(QuestionError::NoAnswer)
    }

    fn peers(&self, question: PeersQuestion) -> Answer<PeersPage> {
        let tally = self.tally()?;
        let look = move |speaker: &Speaker| -> Answer<(Vec<PeerView>, Option<PeerId>)> {
            let (statuses, more) = match &question.peer {
                Some(text) => (speaker.status_of(speaker.find_peer(text)?).into_iter().collect(), false),
                None => {
                    let after = question.from.map(|cursor| PeerId(cursor.0));
                    let mut statuses = speaker.status_after(after.as_ref(), PEERS + 1);
                    let more = statuses.len() > PEERS;
                    statuses.truncate(PEERS);
                    (statuses, more)
                }
            };
            let last = statuses.last().map(|status: &PeerStatus| status.id.clone()).filter(|_| more);
            Ok((statuses.into_iter().map(|status| PeerView::new(speaker, status, &tally)).collect(), last))
        };
        let (peers, last) = self.inspect(look)??;
        let next = last.map(|peer| WireCursor(peer.0));
        Ok(PeersPage { peers: peers.into_iter().map(words::peer).collect(), next })
    }

    /// Counts the tables, a page at a time: between two pages the speaker goes on with its work.
    fn tally(&self) -> Answer<Tally> {
        let (mut tally, mut from) = (Tally::default(), Some(Cursor::START));
        for _ in 0..TALLY_PAGES {
            let Some(cursor) = from else { break };
            let look = move |speaker: &Speaker| {
                let next = speaker.tally(cursor, &mut tally);
                (tally, next)
            };
            (tally, from) = self.inspect(look)?;
        }
        Ok(tally)
    }

    fn routes(&self, question: RoutesQuestion) -> Answer<RoutesPage> {
        let from = cursor(question.from.as_ref())?;
        let look = move |speaker: &Speaker| -> Answer<bgp::query::RoutesPage> {
            let view = match &question.view {
                WireView::All => View::All,
                WireView::Received(peer) => View::Received(speaker.find_peer(peer)?.clone()),
                WireView::Advertised(peer) => View::Advertised(speaker.find_peer(peer)?.clone()),
            };
            Ok(speaker.routes(&RouteFilter { view, prefix: question.prefix, longer: question.longer }, from))
        };
        let page = self.inspect(look)??;
        let next = page.next.map(|next| WireCursor(next.to_string()));
        Ok(RoutesPage { routes: page.routes.iter().map(words::route).collect(), next })
    }

    fn dump(&self, question: &DumpQuestion) -> Answer<DumpPage> {
        let from = question.from.as_ref().map(|cursor| cursor.0.parse()).transpose()?;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = Timestamp::since_epoch(since_epoch);
        let page = self.inspect(move |speaker| speaker.dump(from, time))?;
        let next = page.next.map(|next| WireCursor(next.to_string()));
        Ok(DumpPage { octets: page.octets, routes: page.routes, next })
    }

    fn why(&self, question: WhyQuestion) -> Answer<Why> {
        let look = move |speaker: &Speaker| -> Answer<Explanation> {
            let prefix = prefix(speaker, &question.destination)?;
            Ok(speaker.explain(prefix, question.peer.as_deref())?)
        };
        let explanation = self.inspect(look)??;
        let kernel = kernel_view(&explanation);
        Ok(words::why(explanation, kernel))
    }

    fn what_if(&self, question: &WhatIfQuestion) -> Answer<WhatIfPage> {
        let from = cursor(question.from.as_ref())?;
        let hypothesis = match &question.event {
            Event::Down(peers) => self.down(peers.clone())?,
            Event::Apply(resources) => Hypothesis::Configured(Box::new(self.configured(resources)?)),
        };
        let page = self.inspect(move |speaker| speaker.what_if(&hypothesis, from))??;
        Ok(words::what_if(page))
    }

    fn down(&self, peers: Vec<String>) -> Answer<Hypothesis> {
        let look = move |speaker: &Speaker| -> Result<BTreeSet<PeerId>, PeerError> {
            peers.iter().map(|peer| speaker.find_peer(peer).cloned()).collect()
        };
        Ok(Hypothesis::Down(self.inspect(look)??))
    }

    fn configured(&self, resources: &[serde_json::Value]) -> Answer<SpeakerConfig> {
        let mut rows = Vec::new();
        for resource in resources {
            let documents = documents::load(&resource.to_string());
            let documents = documents.map_err(|errors| QuestionError::Resource(errors.to_string()))?;
            for document in documents {
                let resource = document.into_resource();
                let (key, row) = (resource.key(), Arc::new(api::Row::Resource(resource)));
                rows.push(Update { key, row: Some(row) });
            }
        }
        let plan = (self.imagine)(rows).ok_or(QuestionError::NoPlan)?;
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.config_for(&plan).ok_or(QuestionError::NoIdentifier)
    }
}

/// A session as the speaker's thread sees it.
pub(super) struct PeerView {
    pub(super) status: PeerStatus,
    pub(super) config: Option<bgp::PeerConfig>,
    pub(super) local_as: u32,
    pub(super) capabilities: Vec<bgp::query::CapabilityPair>,
    /// Best and told, by family as in the status.
    pub(super) counts: Vec<(u64, u64)>,
}

impl PeerView {
    fn new(speaker: &Speaker, status: PeerStatus, tally: &Tally) -> Self {
        let config = speaker.peer_config(&status.id).cloned();
        let ours = speaker.config().local_as;
        let local_as = config.as_ref().map_or(ours, |config| config.effective_local_as(ours)).0;
        let count =
            |family| (tally.best(speaker, &status.id, family), tally.told(speaker, &status.id, family));
        let counts = status.received.iter().map(|(family, _)| count(*family)).collect();
        let capabilities = speaker.capabilities(&status.id);
        Self { status, config, local_as, capabilities, counts }
    }
}

fn cursor(from: Option<&WireCursor>) -> Answer<Cursor> {
    Ok(from.map_or(Ok(Cursor::START), |cursor| cursor.0.parse())?)
}

/// A prefix, or the longest one that has an address.
fn prefix(speaker: &Speaker, text: &str) -> Answer<IpNet> {
    if let Ok(prefix) = text.parse::<IpNet>() {
        return Ok(prefix.trunc());
    }
    let address: IpAddr = text.parse().map_err(|_| QuestionError::Destination(text.to_owned()))?;
    speaker.longest_match(address).ok_or(QuestionError::NoRoute(address))
}

/// What the kernel has. That it cannot be read is part of the answer.
fn kernel_view(explanation: &Explanation) -> KernelView {
    let mut view = KernelView::default();
    let best = explanation.paths.first().filter(|path| path.route.best && path.route.peer.is_some());
    let next_hop = best.map(|path| path.route.attributes.next_hop);
    let read = || -> Result<KernelView, kernel::netlink::Error> {
        let mut rtnetlink = Rtnetlink::open()?;
        let exact = rtnetlink.routes_to(explanation.prefix)?;
        let lookup = rtnetlink.lookup(explanation.prefix.addr())?;
        let next_hop = next_hop.map(|address| rtnetlink.lookup(address)).transpose()?.flatten();
        let links = rtnetlink.links()?;
        let shown = |route: &kernel::route::KernelRoute| words::kernel_route(route, &links);
        Ok(KernelView {
            exact: exact.iter().map(shown).collect(),
            lookup: lookup.as_ref().map(shown),
            next_hop: next_hop.as_ref().map(shown),
            error: None,
        })
    };
    match read() {
        Ok(view) => view,
        Err(error) => {
            view.error = Some(error.to_string());
            view
        }
    }
}
