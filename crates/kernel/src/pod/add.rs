use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use super::{Error, GATEWAY_V4, PodInterfaces, PodSpec, find, host_prefix, is_pair};
use crate::address::{self, AddressOptions, add_address};
use crate::interface::{Setting, WorkloadSettings, default_reverse_path_filter, no_advertisements};
use crate::link::{Ipv4Setting, Link, LinkChange, LinkId, NewVeth, VethEnd, change_link};
use crate::netlink::{self, Errno, Message, flags};
use crate::route::{Hop, IPV6_DEFAULT_METRIC, KernelRoute, MAIN_TABLE, RouteKind, add_route};
use crate::sysctl::{Family, ProcSys, Sysctl};
use crate::{InterfaceName, MacAddress, Rtnetlink, ownership};

/// `RTPROT_BOOT`, as `ip route add` marks what it adds.
const PROTOCOL_INSIDE: u8 = 3;

/// How often, and how far apart, the carrier is looked for; after that the workload is left to wait for it.
const CARRIER_POLLS: u32 = 100;
const CARRIER_POLL: Duration = Duration::from_millis(1);

/// The kernel makes links one after another (`rtnl_mutex`), and who waits for that lock there spins as long as its holder runs.
/// Here they sleep, and leave the processor to what else an ADD has to do.
static TURN: Mutex<()> = Mutex::new(());

/// Requests with the names of what they change.
type Steps = Vec<(Message, String)>;

impl PodSpec<'_> {
    /// Makes the plumbing, or completes what is there already. `host` is a socket in the host's namespace, and the
    /// calling thread is in that namespace too.
    ///
    /// # Errors
    /// [`Error`]; what this call made is gone again.
    pub fn add(&self, host: &mut Rtnetlink) -> Result<PodInterfaces, Error> {
        if self.addresses.is_empty() {
            return Err(Error::NoAddress { host_interface: self.host_interface.clone() });
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let existed = self.create(host)?;
        let plumbed = self.complete(host, existed, turn);
        if plumbed.is_err() && !existed {
            // The other end and the routes go with it. If this fails too, the first error is the one to tell.
            let _ = host.delete_link(&self.host_interface);
        }
        plumbed
    }

    /// Makes the pair. Gives whether it was there already.
    fn create(&self, host: &mut Rtnetlink) -> Result<bool, Error> {
        match host.create_veth(&self.veth()) {
            Ok(()) => return Ok(false),
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            Err(error) => return Err(Error::Host(error)),
        }
        let outside = find(host, &self.host_interface).map_err(Error::Host)?;
        let inside =
            self.namespace.run(|| find(&mut Rtnetlink::open()?, &self.interface))?.map_err(Error::Inside)?;
        if let (Some(outside), Some(inside)) = (&outside, &inside)
            && is_pair(host, outside, inside, self.namespace)?
        {
            if outside.group != ownership::CONDEMNED_GROUP {
                return Ok(true);
            }
        } else if inside.is_some() {
            return Err(Error::InterfaceTaken {
                interface: self.interface.clone(),
                host_interface: self.host_interface.clone(),
            });
        }
        // What is left of an earlier workload of the same name.
        host.delete_link(&self.host_interface).map_err(Error::Host)?;
        host.create_veth(&self.veth()).map_err(Error::Host)?;
        Ok(false)
    }

    fn veth(&self) -> NewVeth<'_> {
        let near = VethEnd {
            name: self.host_interface.clone(),
            mac: Some(MacAddress(ownership::HOST_MAC)),
            namespace: None,
        };
        let far = VethEnd { name: self.interface.clone(), mac: self.mac, namespace: Some(self.namespace) };
        NewVeth { near, far, mtu: self.mtu, queues: self.queues }
    }

    /// The host's end first: whoever waits for it to be up to route there need not wait for the other.
    fn complete(
        &self,
        host: &mut Rtnetlink,
        existed: bool,
        turn: MutexGuard<'_, ()>,
    ) -> Result<PodInterfaces, Error> {
        let host = self.complete_host(host, existed)?;
        let inside = host.peer.ok_or_else(|| Error::Vanished { interface: self.interface.clone() })?.index;
        let mut socket = self.namespace.run(|| self.complete_inside(inside, existed))??;
        drop(turn);
        let inside = self.wait_until_running(&mut socket)?;
        Ok(PodInterfaces { host, inside, existed })
    }

    /// The end that was set up first gets its carrier when the other is set up too, but a worker of the kernel has to
    /// notice before anything can be sent. From Linux 6.9 on, asking for the link makes it notice.
    fn wait_until_running(&self, inside: &mut Rtnetlink) -> Result<Link, Error> {
        let mut link = self.present(find(inside, &self.interface), &self.interface, Error::Inside)?;
        for _ in 0..CARRIER_POLLS {
            if link.running {
                break;
            }
            std::thread::sleep(CARRIER_POLL);
            link = self.present(find(inside, &self.interface), &self.interface, Error::Inside)?;
        }
        Ok(link)
    }

    /// Runs in the workload's namespace. Gives a socket there.
    fn complete_inside(&self, index: u32, existed: bool) -> Result<Rtnetlink, Error> {
        for setting in self.settings_inside() {
            setting.enforce(&mut ProcSys)?;
        }
        let mut socket = Rtnetlink::open().map_err(Error::Inside)?;
        let mut steps = vec![self.up(&InterfaceName::from_kernel("lo".to_owned()), LinkChange::up())];
        steps.push(self.up(&self.interface, self.link_change(existed.then_some(self.mac).flatten())));
        for address in &self.addresses {
            steps.push(address_step(index, host_prefix(*address)));
        }
        steps.extend(self.routes_inside(index));
        socket.all(steps).map_err(Error::Inside)?;
        Ok(socket)
    }

    pub(super) fn settings_inside(&self) -> Vec<Setting> {
        let forwarding = if self.allow_ip_forwarding { "1" } else { "0" };
        let mut settings = Vec::new();
        if self.has_ipv4() {
            settings.push(Setting::required(Sysctl::new("net/ipv4/ip_forward"), forwarding));
        }
        if self.has_ipv6() {
            let lo = InterfaceName::from_kernel("lo".to_owned());
            let own = |setting| Sysctl::interface(Family::V6, &self.interface, setting);
            settings.extend([
                Setting::required(Sysctl::scope(Family::V6, "all", "disable_ipv6"), "0"),
                Setting::required(Sysctl::scope(Family::V6, "default", "disable_ipv6"), "0"),
                Setting::required(Sysctl::interface(Family::V6, &lo, "disable_ipv6"), "0"),
                Setting::required(own("accept_dad"), "0"),
                Setting::required(Sysctl::scope(Family::V6, "all", "forwarding"), forwarding),
            ]);
        }
        settings
    }

    fn routes_inside(&self, index: u32) -> Steps {
        let mut routes = Vec::new();
        if self.has_ipv4() {
            routes.push(route(host_prefix(GATEWAY_V4.into()), None, index, PROTOCOL_INSIDE, 0));
        }
        for destination in self.usable_routes() {
            routes.push(route(
                destination,
                Some(self.gateway(destination.addr())),
                index,
                PROTOCOL_INSIDE,
                0,
            ));
        }
        routes
            .into_iter()
            .map(|route| (add_route(&route, flags::REPLACE), format!("route {route}")))
            .collect()
    }

    fn complete_host(&self, host: &mut Rtnetlink, existed: bool) -> Result<Link, Error> {
        for setting in self.settings_before_up() {
            setting.enforce(&mut ProcSys)?;
        }
        let link = self.present(find(host, &self.host_interface), &self.host_interface, Error::Host)?;
        let mac = existed.then_some(MacAddress(ownership::HOST_MAC));
        let mut steps = vec![self.up(&self.host_interface, self.host_change(mac))];
        if self.has_ipv6() {
            // The kernel makes the same address by itself where it derives them from the Ethernet address, but that
            // can be configured otherwise, and workloads rely on it.
            let gateway = IpNet::new(MacAddress(ownership::HOST_MAC).link_local().into(), 64);
            steps.extend(gateway.ok().map(|gateway| address_step(link.index, gateway)));
        }
        host.all(steps).map_err(Error::Host)?;
        self.add_host_routes(host, link.index)?;
        Ok(Link { up: true, ..link })
    }

    /// What the host's end must have before it takes packets; the rest only matters once there are routes.
    fn settings_before_up(&self) -> Vec<Setting> {
        if self.host_routes.is_some() {
            return self.settings_on_host();
        }
        std::iter::once(no_advertisements(&self.host_interface)).chain(self.no_detection_on_host()).collect()
    }

    pub(super) fn settings_on_host(&self) -> Vec<Setting> {
        let families =
            WorkloadSettings { ipv4: self.has_ipv4(), ipv6: self.has_ipv6(), no_reverse_path_filter: false };
        let mut settings =
            families.of_host_side(&self.host_interface, &default_reverse_path_filter(&mut ProcSys));
        settings.extend(self.no_detection_on_host());
        settings
    }

    /// The gateway's address must work at once, and nobody else can have it on this link.
    fn no_detection_on_host(&self) -> Option<Setting> {
        let detection = || Sysctl::interface(Family::V6, &self.host_interface, "accept_dad");
        self.has_ipv6().then(|| Setting::required(detection(), "0"))
    }

    fn add_host_routes(&self, host: &mut Rtnetlink, index: u32) -> Result<(), Error> {
        for route in self.host_routes(index) {
            let message = add_route(&route, flags::EXCLUSIVE);
            match host.socket.acknowledge(&message, format_args!("route {route}")) {
                Err(error) if error.errno() == Some(Errno::EXIST) => tolerate_existing(host, &route, index)?,
                outcome => outcome.map_err(Error::Host)?,
            }
        }
        Ok(())
    }

    pub(super) fn host_routes(&self, index: u32) -> Vec<KernelRoute> {
        let Some(marks) = self.host_routes else { return Vec::new() };
        let to = |address: &IpAddr| route(host_prefix(*address), None, index, marks.protocol, marks.metric);
        self.addresses.iter().map(to).collect()
    }

    /// With the settings by which it answers for the gateway; so whoever looks after all settings finds little to do.
    fn host_change(&self, mac: Option<MacAddress>) -> LinkChange<'static> {
        let ipv4 = if self.has_ipv4() {
            vec![(Ipv4Setting::ProxyArp, 1), (Ipv4Setting::RouteLocalnet, 1)]
        } else {
            vec![]
        };
        LinkChange { ipv4, ..self.link_change(mac) }
    }

    /// A pair that was there before may differ in what is otherwise set when it is made.
    fn link_change(&self, mac: Option<MacAddress>) -> LinkChange<'static> {
        LinkChange { mtu: self.mtu, mac, ..LinkChange::up() }
    }

    fn up(&self, name: &InterfaceName, change: LinkChange<'_>) -> (Message, String) {
        let id = LinkId::Name(name.clone());
        (change_link(&id, &change), format!("{id}: set it up"))
    }

    fn present(
        &self,
        found: Result<Option<Link>, netlink::Error>,
        interface: &InterfaceName,
        side: fn(netlink::Error) -> Error,
    ) -> Result<Link, Error> {
        found.map_err(side)?.ok_or_else(|| Error::Vanished { interface: interface.clone() })
    }
}

fn address_step(index: u32, address: IpNet) -> (Message, String) {
    let options = AddressOptions { no_duplicate_detection: true, ..AddressOptions::default() };
    (add_address(index, address, options), address::name(index, address))
}

pub(super) fn route(
    destination: IpNet,
    gateway: Option<IpAddr>,
    index: u32,
    protocol: u8,
    metric: u32,
) -> KernelRoute {
    KernelRoute {
        destination,
        table: MAIN_TABLE,
        metric: if metric == 0 && destination.addr().is_ipv6() { IPV6_DEFAULT_METRIC } else { metric },
        tos: 0,
        protocol,
        kind: RouteKind::Unicast,
        hops: vec![Hop { gateway, device: Some(index), onlink: false, weight: 1 }],
        source: None,
    }
}

/// A route that is there already is fine if it leads to our device.
fn tolerate_existing(host: &mut Rtnetlink, wanted: &KernelRoute, index: u32) -> Result<(), Error> {
    let routes = host.main_routes().map_err(Error::Host)?;
    let Some(found) = routes.into_iter().find(|route| route.key() == wanted.key()) else { return Ok(()) };
    let device = found.hops.first().and_then(|hop| hop.device);
    if device == Some(index) {
        return Ok(());
    }
    let name = device.map(|device| host.link(device)).transpose().map_err(Error::Host)?.flatten();
    Err(Error::RouteTaken {
        destination: wanted.destination,
        route: found.to_string(),
        device: name.map_or_else(|| "none".to_owned(), |link| link.name.to_string()),
    })
}
