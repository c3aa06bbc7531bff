//! `tortie reflector` against the BGP daemons that others run, from their Debian packages. Each test has network
//! namespaces and a folder of its own, so all of them run side by side. Needs root.

mod checks;
mod daemon;
mod exabgp;
mod matrix;
mod mesh;
mod ours;
mod pings;
mod results;
mod side;
mod world;
