//! The functions that the fuzzer calls with octets: one for each decoder, and one for a whole session.
//!
//! A target takes any octets and panics if what must hold does not: that decoders give a value or an error that a peer can
//! be told, that what is written is read back as the same, and [much more](session) for a speaker among peers. They live
//! apart from the fuzzer's engine (`fuzz/`), so that `cargo test` runs the whole corpus, and every test vector, through
//! them without it.

mod bfd;
mod codec;
mod observe;
pub mod seeds;
pub mod session;
mod text;

/// Something to be fuzzed.
pub struct Target {
    /// Its name: that of the engine's program, and of the folder in `fuzz/corpus/`.
    pub name: &'static str,
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
}

/// All of them, in the order of their names.
pub const TARGETS: &[Target] = &[
    Target { name: "bfd_packet", run: bfd::packet },
    Target { name: "bfd_table", run: bfd::table },
    Target { name: "bmp", run: observe::bmp },
    Target { name: "handover", run: observe::handover },
    Target { name: "message", run: codec::message },
    Target { name: "mrt", run: observe::mrt },
    Target { name: "mrt_attributes", run: observe::mrt_attributes },
    Target { name: "notification", run: codec::notification },
    Target { name: "open", run: codec::open },
    Target { name: "prefixes", run: codec::prefixes },
    Target { name: "route_refresh", run: codec::route_refresh },
    Target { name: "session", run: session::run },
    Target { name: "stream", run: codec::stream },
    Target { name: "text", run: text::run },
    Target { name: "update", run: codec::update },
];

/// Runs a target.
///
/// # Panics
/// There is none of that name, or the octets show a fault.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.run)(data);
}
