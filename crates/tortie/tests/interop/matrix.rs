//! What is tried with whom: a row for each feature, a column for each daemon. A cell is a test.

use crate::daemon::{Bird, Daemon, Frr, GoBgp, OpenBgpd};
use crate::results::Cell;

/// All daemons, in the order of the columns.
pub(crate) const DAEMONS: [&dyn Daemon; 4] = [&Bird, &Frr, &GoBgp, &OpenBgpd];

macro_rules! matrix {
    ($($feature:ident $test:ident $title:literal $check:path;)*) => {
        /// What speakers can do together, in the order of the rows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Feature {
            $(#[doc = $title] $feature,)*
        }

        impl Feature {
            fn title(self) -> &'static str {
                match self { $(Self::$feature => $title,)* }
            }
        }

        matrix!(@with bird 0 [$($feature $test $check;)*]);
        matrix!(@with frr 1 [$($feature $test $check;)*]);
        matrix!(@with gobgp 2 [$($feature $test $check;)*]);
        matrix!(@with openbgpd 3 [$($feature $test $check;)*]);
    };
    (@with $module:ident $column:literal [$($feature:ident $test:ident $check:path;)*]) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::run(super::Feature::$feature, $column, $check);
                }
            )*
        }
    };
}

fn run(feature: Feature, column: usize, check: fn(&'static dyn Daemon)) {
    let daemon = DAEMONS[column];
    let place = ("peers", feature as usize, column);
    let cell = Cell { place, feature: feature.title(), peer: (daemon.name(), daemon.program().1) };
    cell.note(daemon.refuses(feature), || check(daemon));
}

matrix! {
    Internal internal_sessions "iBGP, a session for IPv4 and one for IPv6" crate::checks::sessions::internal;
    External external_sessions "eBGP, likewise" crate::checks::sessions::external;
    AsClient a_client_of_our_reflector "client of our reflector" crate::checks::sessions::client_of_ours;
    AsReflector a_reflector_that_we_are_a_client_of "reflector, with us as client" crate::checks::sessions::our_reflector;
    BothFamilies both_families_over_one_session "IPv4 and IPv6 over one session" crate::checks::sessions::both_families;
    ExtendedNextHop ipv4_with_ipv6_next_hops "IPv4 with IPv6 next hops (RFC 8950)" crate::checks::sessions::extended_next_hop;
    Md5 signed_sessions_and_wrong_passwords "TCP MD5: right and wrong passwords" crate::checks::security::md5;
    Gtsm sessions_with_ttl_security "GTSM (RFC 5082)" crate::checks::security::gtsm;
    AddPathToThem several_routes_for_a_prefix_to_the_peer "add-path, from us" crate::checks::add_path::to_them;
    AddPathFromThem several_routes_for_a_prefix_from_the_peer "add-path, to us" crate::checks::add_path::from_them;
    TheirRestart forwarding_over_the_peers_restart "graceful restart of the peer, under traffic" crate::checks::restart::theirs;
    OurRestart forwarding_over_our_restart "our graceful restart, under traffic" crate::checks::restart::ours;
    Communities communities_through_us "communities (standard, large, extended) through us to the next" crate::checks::communities::through_us;
    OurRefresh route_refresh_by_us "route refresh that we ask for" crate::checks::refresh::ours;
    TheirRefresh route_refresh_by_the_peer "route refresh that the peer asks for" crate::checks::refresh::theirs;
    Bfd a_cut_path_seen_by_bfd "BFD: a cut path ends the session" crate::checks::bfd::cut;
    Scale a_hundred_thousand_routes_each_way "100,000 routes each way" crate::checks::scale::each_way;
}
