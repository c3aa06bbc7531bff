//! Where the speaker runs, and where its neighbours are: next hops have to be other hosts' addresses.

use std::io::Write;
use std::net::Ipv4Addr;

use anyhow::Result;
use kernel::link::{NewVeth, VethEnd};
use kernel::netns::Netns;
use kernel::{InterfaceName, Rtnetlink};
use testkit::TestNamespace;

use super::session::Neighbour;
use super::speaker::ADDRESS;

/// Two namespaces with a link between them; they go with this.
pub(super) struct Net {
    pub(super) speaker: TestNamespace,
    pub(super) neighbours: TestNamespace,
}

impl Net {
    pub(super) fn new(neighbours: &[Neighbour]) -> Result<Self> {
        let net = Self { speaker: TestNamespace::new(), neighbours: TestNamespace::new() };
        let far = Netns::open(net.neighbours.path())?;
        let name = InterfaceName::new("eth0").expect("a good name");
        let end = |namespace| VethEnd { name: name.clone(), mac: None, namespace };
        let veth = NewVeth { near: end(None), far: end(Some(&far)), mtu: None, queues: None };
        net.speaker.run(|| Rtnetlink::open()?.create_veth(&veth))?;
        net.speaker.command(&format!("ip address add {}/16 dev eth0", ADDRESS.ip()));
        let mut batch = String::from("link set eth0 up\n");
        for neighbour in neighbours {
            batch.push_str(&format!("address add {}/16 dev eth0\n", neighbour.address));
        }
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(batch.as_bytes())?;
        net.neighbours.command(&format!("ip -batch {}", file.path().display()));
        for line in ["ip link set lo up", "ip link set eth0 up"] {
            net.speaker.command(line);
        }
        Ok(net)
    }
}

/// The address of a neighbour.
pub(super) fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(*ADDRESS.ip()) + 256 + number)
}
