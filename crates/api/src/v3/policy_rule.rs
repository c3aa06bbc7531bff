//! Rules of policies and profiles. Their structs refuse fields that they do not know: a condition that is left out would let
//! more through than was meant.

use std::collections::BTreeMap;

use super::object;
use crate::scalars::{IpVersion, Net, Port, Protocol, words};

object! {
    /// A rule of a policy or profile: matches a packet when all that it says holds.
    #[serde(deny_unknown_fields)]
    pub struct Rule {
        /// What to do with a packet that matches.
        action: Action = required,
        /// Only this IP version.
        ip_version: Option<IpVersion>,
        /// Only this protocol.
        protocol: Option<Protocol>,
        /// Only these ICMP messages.
        icmp: Option<IcmpFields>,
        /// Not this protocol.
        not_protocol: Option<Protocol>,
        /// Not these ICMP messages.
        #[serde(rename = "notICMP")]
        not_icmp: Option<IcmpFields>,
        /// Where it comes from.
        source: EntityRule,
        /// Where it goes.
        destination: EntityRule,
        /// Only these HTTP requests.
        http: Option<HttpMatch>,
        /// Notes for people and flow logs.
        metadata: Option<RuleMetadata>,
        /// Why this version cannot read the rule as it is stored; what it stands for then opens nothing. No part of documents:
        /// see [`crate::Row::decode_closed`].
        #[serde(skip)]
        unreadable: Option<String>,
    }
}

impl Rule {
    /// A rule that matches everything.
    pub fn new(action: Action) -> Self {
        Self {
            action,
            ip_version: None,
            protocol: None,
            icmp: None,
            not_protocol: None,
            not_icmp: None,
            source: EntityRule::default(),
            destination: EntityRule::default(),
            http: None,
            metadata: None,
            unreadable: None,
        }
    }
}

words! {
    /// What a rule does with a packet.
    Action {
        /// Accept it.
        Allow = "Allow",
        /// Drop it.
        Deny = "Deny",
        /// Log it and go on with the next rule.
        Log = "Log",
        /// Leave it to the next tier, or to the profiles after the last.
        Pass = "Pass",
    }
}

object! {
    /// ICMP type and code (RFC 792, RFC 4443).
    #[derive(Default, Eq)]
    #[serde(deny_unknown_fields)]
    pub struct IcmpFields {
        /// 0..254; any if absent.
        #[serde(rename = "type")]
        icmp_type: Option<i64>,
        /// 0..255, needs a type; any if absent.
        code: Option<i64>,
    }
}

object! {
    /// One side of a rule.
    #[derive(Default)]
    #[serde(deny_unknown_fields)]
    pub struct EntityRule {
        /// In one of these.
        nets: Vec<Net>,
        /// An endpoint or network set that this selector matches; unset if empty.
        selector: String,
        /// In a namespace that this selector matches; unset if empty. `global()` is: in none.
        namespace_selector: String,
        /// The endpoints of a service.
        services: Option<ServiceMatch>,
        /// On one of these ports.
        ports: Vec<Port>,
        /// In none of these.
        not_nets: Vec<Net>,
        /// No endpoint or network set that this selector matches; unset if empty.
        not_selector: String,
        /// On none of these ports.
        not_ports: Vec<Port>,
        /// Running under one of these service accounts.
        service_accounts: Option<ServiceAccountMatch>,
    }
}

object! {
    /// The endpoints of a Kubernetes service.
    #[derive(Default, Eq)]
    #[serde(deny_unknown_fields)]
    pub struct ServiceMatch {
        /// The service's name.
        name: String,
        /// Its namespace; the policy's if empty.
        namespace: String,
    }
}

object! {
    /// Service accounts by name and by label; both have to hold.
    #[derive(Default, Eq)]
    #[serde(deny_unknown_fields)]
    pub struct ServiceAccountMatch {
        /// One of these names; any if empty.
        names: Vec<String>,
        /// Matched by this selector; unset if empty.
        selector: String,
    }
}

object! {
    /// HTTP requests.
    #[derive(Default, Eq)]
    #[serde(deny_unknown_fields)]
    pub struct HttpMatch {
        /// One of these methods; any if empty.
        methods: Vec<String>,
        /// One of these paths; any if empty.
        paths: Vec<HttpPath>,
    }
}

object! {
    /// An HTTP path, exact or by its beginning: one of the two.
    #[derive(Default, Eq)]
    pub struct HttpPath {
        /// The whole path.
        exact: Option<String>,
        /// Its beginning.
        prefix: Option<String>,
    }
}

object! {
    /// Notes on a rule.
    #[derive(Default, Eq)]
    pub struct RuleMetadata {
        /// Free form.
        annotations: BTreeMap<String, String>,
    }
}
