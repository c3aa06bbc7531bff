//! What sort of value a parameter takes.

/// What sort of value a parameter takes, in the API and as text in the environment or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterType {
    /// Yes or no.
    Bool,
    /// A whole number from the first to the second, both included.
    Integer(i64, i64),
    /// A duration in the API; a decimal number of seconds as text.
    Seconds,
    /// A duration in the API; a decimal number of milliseconds as text.
    Milliseconds,
    /// Any text.
    Text,
    /// A path, or a program to look up.
    Path,
    /// A host name or address.
    Host,
    /// One of these words, exactly.
    Words(&'static [&'static str]),
    /// One of these words in any case.
    AnyCase(&'static [&'static str]),
    /// A regular expression.
    Regex,
    /// An interface's name.
    InterfaceName,
    /// An interface's name; a `+` at the end matches any rest.
    InterfaceGlob,
    /// A list of interface globs.
    InterfaceGlobs,
    /// Beginnings of interface names with commas between.
    InterfacePrefixes,
    /// Interface names or `/regular expressions/` with commas between.
    InterfacePatterns,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A list of networks or addresses.
    Nets,
    /// A port or a range of ports.
    PortRange,
    /// At most seven ports or ranges of ports.
    PortRanges,
    /// A list of `{protocol, port, net}`; `tcp:22` or `tcp:[net]:22` as text.
    ProtoPorts,
    /// Routing table indices `{min, max}` within 1..250.
    RouteTableRange,
    /// A list of `{min, max}`, at most 65535 tables in all.
    RouteTableRanges,
    /// A 32-bit mask with at least two bits.
    Mask,
    /// `name=value` with commas between.
    KeyValues,
    /// An object of texts; `name=value` with commas between as text.
    Map,
    /// A list of `{name, timeout}`; `name=duration` with commas between as text.
    HealthTimeouts,
    /// An object of durations or `Auto`; `name=duration` with commas between as text.
    ConntrackTimeouts,
    /// `N/second`, `N/minute`, `N/hour` or `N/day`, N from 1 to 9999.
    RateLimit,
    /// A DSCP.
    Dscp,
    /// A DNS label that leaves room for the prefix of the region's namespace.
    RegionName,
}
