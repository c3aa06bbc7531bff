//! Several routes for a prefix (RFC 7911).

use super::{THEM, US};
use crate::daemon::Daemon;
use crate::side::{Ip, Neighbour, OUR_AS, Side, address, block};
use crate::world::{Who, World};

/// Two that announce the same blocks.
const ORIGINS: [u8; 2] = [3, 4];
/// Whose blocks they are.
const SHARED: u8 = 9;

/// `reflector` reflects for the two, and sends `client` both of their routes.
fn world(reflector: (u8, Who), client: (u8, Who)) -> World {
    let mut world = World::new();
    let mut others: Vec<(u8, u32)> = ORIGINS.map(|host| (host, OUR_AS)).into();
    others.push((client.0, OUR_AS));
    let reflected = |neighbour: &mut Neighbour| {
        neighbour.is_client = true;
        neighbour.add_path = neighbour.host == client.0;
    };
    world.add(reflector.1, Side::new(reflector.0, OUR_AS).with(&others, reflected));
    let several = |neighbour: &mut Neighbour| neighbour.add_path = true;
    world.add(client.1, Side::new(client.0, OUR_AS).with(&[(reflector.0, OUR_AS)], several));
    for host in ORIGINS {
        let mut origin = Side::new(host, OUR_AS).with(&[(reflector.0, OUR_AS)], |_| ());
        origin.announced = Ip::BOTH.map(|ip| block(SHARED, ip)).into();
        world.add(Who::Us, origin);
    }
    world
}

pub(crate) fn to_them(daemon: &'static dyn Daemon) {
    let mut world = world((US, Who::Us), (THEM, Who::Daemon(daemon)));
    world.start_all();
    world.await_sessions(US);
    for ip in Ip::BOTH {
        let prefix = block(SHARED, ip);
        world.await_that(&format!("both routes for {prefix} at the peer"), |world| {
            let shown = world.host(THEM).route(&prefix);
            ORIGINS.iter().all(|origin| shown.contains(&address(*origin, ip)))
        });
    }
}

pub(crate) fn from_them(daemon: &'static dyn Daemon) {
    let mut world = world((THEM, Who::Daemon(daemon)), (US, Who::Us));
    world.start_all();
    world.await_sessions(US);
    for ip in Ip::BOTH {
        let prefix = block(SHARED, ip);
        world.await_that(&format!("both routes for {prefix} here"), |world| {
            let routes = world.host(US).routes_for(&prefix);
            let from = |origin: &u8| {
                routes
                    .iter()
                    .any(|route| route["nextHop"] == address(*origin, ip) && !route["pathId"].is_null())
            };
            ORIGINS.iter().all(from)
        });
    }
}
