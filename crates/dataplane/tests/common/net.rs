//! A host and its workloads in network namespaces of their own, and packets between them.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use calc::contract::Change;
use dataplane::{ApplyReport, DataplaneConfig, Kernel, RealDataplane};
use kernel::link::LinkChange;
use kernel::netns::Netns;
use kernel::pod::PodSpec;
use kernel::{InterfaceName, Rtnetlink};

/// How long an answer that will not come is waited for.
pub const SILENCE: Duration = Duration::from_millis(150);
/// How long an answer that has to come is waited for.
pub const ANSWER: Duration = Duration::from_secs(5);

/// A workload.
pub struct Pod {
    pub namespace: Netns,
    pub interface: String,
    pub addresses: Vec<IpAddr>,
}

/// The host. Made and used on a thread inside the host's namespace.
pub struct Host {
    pub dataplane: RealDataplane,
    pub links: Rtnetlink,
    pub generation: Box<dyn kernel::nft::Transport>,
    backend: Backend,
}

/// What enforces policy on the host: the parameters that say so.
pub type Backend = &'static [(&'static str, &'static str)];

/// nf_tables.
pub const NFT: Backend = &[("NFTablesMode", "Enabled")];
/// iptables over nf_tables.
pub const IPTABLES_NFT: Backend = &[("NFTablesMode", "Disabled"), ("IptablesBackend", "NFT")];
/// iptables over the kernel's older tables.
pub const IPTABLES_LEGACY: Backend = &[("NFTablesMode", "Disabled"), ("IptablesBackend", "Legacy")];

/// Runs a test on a thread inside a fresh namespace, which is the host's.
pub fn on_a_host(test: impl FnOnce(Host) + Send) {
    on_a_host_with(&[], test);
}

/// The same on three hosts, one for each backend.
pub fn on_each_host(test: impl Fn(Host) + Sync) {
    for backend in [NFT, IPTABLES_NFT, IPTABLES_LEGACY] {
        println!("{backend:?}");
        on_a_host_with(backend, &test);
    }
}

/// The same where this enforces policy.
pub fn on_a_host_with(backend: Backend, test: impl FnOnce(Host) + Send) {
    let namespace = testkit::TestNamespace::new();
    namespace.run(|| test(Host::new(backend)));
}

impl Host {
    fn new(backend: Backend) -> Self {
        let mut links = Rtnetlink::open().unwrap();
        links.change_link(&InterfaceName::new("lo").unwrap(), &LinkChange::up()).unwrap();
        let generation = Box::new(kernel::nft::NftSocket::open().unwrap());
        Self { dataplane: started(backend), links, generation, backend }
    }

    /// A process that remembers nothing takes over.
    pub fn restart(&mut self) {
        self.dataplane = started(self.backend);
    }

    /// Another one takes over, with that backend.
    pub fn restart_with(&mut self, backend: Backend) {
        self.backend = backend;
        self.restart();
    }

    /// Makes a workload's namespace and interface, as the CNI plugin does.
    pub fn add_pod(&mut self, interface: &str, addresses: &[&str]) -> Pod {
        let namespace = Netns::make().unwrap();
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let spec = PodSpec {
            namespace: &namespace,
            interface: InterfaceName::new("eth0").unwrap(),
            host_interface: InterfaceName::new(interface).unwrap(),
            addresses: addresses.clone(),
            routes: PodSpec::default_routes(),
            mac: None,
            mtu: None,
            queues: None,
            allow_ip_forwarding: false,
            host_routes: None,
        };
        let made = spec.add(&mut self.links).unwrap();
        self.dataplane.on_link(&made.host);
        Pod { namespace, interface: interface.to_owned(), addresses }
    }

    /// Takes in changes and applies them.
    pub fn play(&mut self, changes: impl IntoIterator<Item = Change>) -> ApplyReport {
        changes.into_iter().for_each(|change| self.dataplane.on_change(change));
        let report = self.dataplane.apply(Instant::now());
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        report
    }

    /// The generation of the ruleset: it changes with whatever anyone writes.
    pub fn generation(&mut self) -> u32 {
        self.generation.generation().unwrap()
    }
}

fn started(backend: Backend) -> RealDataplane {
    let local_parameters =
        backend.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = DataplaneConfig {
        node_name: "node".to_owned(),
        local_parameters,
        flow_log: kernel::nflog::is_supported().unwrap_or(false),
    };
    let mut dataplane = RealDataplane::new(config, Kernel::open().unwrap());
    dataplane.set_gateway_route(true);
    dataplane
}

impl Pod {
    pub fn v4(&self) -> IpAddr {
        *self.addresses.iter().find(|address| address.is_ipv4()).unwrap()
    }

    /// Listens inside.
    pub fn listen(&self, port: u16) -> TcpListener {
        let address = SocketAddr::new(self.v4(), port);
        self.namespace.run(|| TcpListener::bind(address).unwrap()).unwrap()
    }

    /// Whether a TCP connection from inside to there is made, within the time.
    pub fn connects(&self, to: IpAddr, port: u16, within: Duration) -> bool {
        self.connection(to, port, within).is_some()
    }

    /// A TCP connection from inside.
    pub fn connection(&self, to: IpAddr, port: u16, within: Duration) -> Option<TcpStream> {
        let to = SocketAddr::new(to, port);
        match self.namespace.run(|| TcpStream::connect_timeout(&to, within)).unwrap() {
            Ok(stream) => Some(stream),
            Err(error) => {
                let silent = [ErrorKind::TimedOut, ErrorKind::WouldBlock, ErrorKind::NetworkUnreachable];
                assert!(silent.contains(&error.kind()), "{to}: {error}");
                None
            }
        }
    }

    /// A UDP socket inside, on one of the workload's addresses.
    pub fn udp(&self, port: u16) -> UdpSocket {
        let address = SocketAddr::new(self.v4(), port);
        self.namespace.run(|| UdpSocket::bind(address).unwrap()).unwrap()
    }
}

/// Whether a datagram gets there. Sent again and again while it is expected, so that neighbour discovery may take its time.
pub fn datagram_arrives(from: &UdpSocket, to: &UdpSocket, expected: bool) -> bool {
    let deadline = Instant::now() + if expected { ANSWER } else { SILENCE };
    let mut buffer = [0; 16];
    to.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while Instant::now() < deadline {
        from.send_to(b"probe", to.local_addr().unwrap()).unwrap();
        if to.recv_from(&mut buffer).is_ok() {
            return true;
        }
    }
    false
}
