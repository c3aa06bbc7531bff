//! `tortie reflector` against the BGP daemons that others run, from their Debian packages. Each test has network
//! namespaces and a folder of its own, so all of them run side by side. Needs root.

mod bird;
mod daemon;
mod frr;
mod gobgp;
mod openbgpd;
mod scenario;
mod wire;

use daemon::Daemon;
use scenario::Scenario;
use wire::Wire;

/// Sessions of both families come up, and routes go both ways and away again.
fn exchanges_routes(daemon: &dyn Daemon, scenario: &Scenario) {
    testkit::require_root();
    let mut wire = Wire::new(daemon, scenario);
    wire.start_ours();
    wire.start_theirs();
    for address in scenario::THEIR_ADDRESSES {
        wire.await_that(&format!("the session with {address} up, by our own word"), |wire| {
            wire.sessions_up().iter().any(|up| up == address)
        });
    }
    for prefix in scenario::OUR_PREFIXES {
        wire.await_that(&format!("{prefix} at the peer"), |wire| wire.their_routes().contains(prefix));
    }
    for (prefix, next_hop) in scenario::THEIR_PREFIXES.iter().zip(scenario::THEIR_ADDRESSES) {
        wire.await_that(&format!("{prefix} in our kernel"), |wire| {
            wire.our_routes().contains(&format!("{prefix} via {next_hop}"))
        });
    }
    wire.stop_theirs();
    wire.await_that("the sessions seen to be down", |wire| wire.sessions_up().is_empty());
}

/// Without the password, or with another, there is no session.
fn needs_the_password(daemon: &dyn Daemon) {
    testkit::require_root();
    let mut wire = Wire::new(daemon, &Scenario { password: Some("right"), ..Scenario::INTERNAL });
    wire.write_password("wrong");
    wire.start_ours();
    wire.start_theirs();
    wire.await_that("the kernel counted a signature that is not right", |wire| wire.refused_signatures() > 0);
    assert_eq!(wire.sessions_up(), [""; 0], "a session without the right password");
    wire.write_password("right");
    wire.await_that("both sessions up", |wire| wire.sessions_up().len() == 2);
}

macro_rules! matrix {
    ($module:ident, $daemon:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn internal_sessions_exchange_routes_of_both_families() {
                exchanges_routes(&$daemon, &Scenario::INTERNAL);
            }

            #[test]
            fn external_sessions_exchange_routes_of_both_families() {
                exchanges_routes(&$daemon, &Scenario::EXTERNAL);
            }

            #[test]
            fn a_client_of_our_reflector_exchanges_routes_of_both_families() {
                exchanges_routes(&$daemon, &Scenario { we_reflect: true, ..Scenario::INTERNAL });
            }

            #[test]
            fn signed_sessions_exchange_routes() {
                exchanges_routes(&$daemon, &Scenario { password: Some("rosebud"), ..Scenario::INTERNAL });
            }

            #[test]
            fn sessions_with_ttl_security_exchange_routes() {
                exchanges_routes(&$daemon, &Scenario { ttl_security: true, ..Scenario::EXTERNAL });
            }

            #[test]
            fn a_wrong_password_is_no_session_until_it_is_right() {
                needs_the_password(&$daemon);
            }
        }
    };
}

matrix!(with_bird, bird::Bird);
matrix!(with_frr, frr::Frr);
matrix!(with_gobgp, gobgp::GoBgp);
matrix!(with_openbgpd, openbgpd::OpenBgpd);
