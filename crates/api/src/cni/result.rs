//! CNI results, read and written in every version.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::SpecVersion;

/// What an attachment looks like: the newest form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CniResult {
    /// Links that were made, in the host (no sandbox) and in the container.
    pub interfaces: Vec<Interface>,
    /// Addresses of the container.
    pub ips: Vec<Ip>,
    /// Routes of the container.
    pub routes: Vec<Route>,
    /// Name resolution for the container.
    pub dns: Dns,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, `aa:bb:cc:dd:ee:ff`, or empty.
    pub mac: String,
    /// Its MTU in bytes (written from 1.1.0 on).
    pub mtu: Option<u32>,
    /// Path of the namespace that it is in; empty for the host.
    pub sandbox: String,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    /// With its prefix length.
    pub address: IpNet,
    /// Its gateway, if it has one.
    pub gateway: Option<IpAddr>,
    /// Index into `interfaces`.
    pub interface: Option<usize>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub destination: IpNet,
    /// Next hop.
    pub gateway: Option<IpAddr>,
}

/// Name resolution.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns(pub Map<String, Value>);

/// Why something is not a CNI result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a CNI result: {field}: {reason}")]
pub struct ResultError {
    field: String,
    reason: String,
}

fn wrong(field: impl Into<String>, reason: impl ToString) -> ResultError {
    ResultError { field: field.into(), reason: reason.to_string() }
}

impl CniResult {
    /// The JSON document of this result in a version.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let mut document = Map::from_iter([("cniVersion".to_owned(), version.name().into())]);
        if version <= SpecVersion::V0_2_0 {
            self.write_legacy(&mut document);
        } else {
            self.write(&mut document, version);
        }
        if !self.dns.0.is_empty() || version <= SpecVersion::V0_4_0 {
            document.insert("dns".to_owned(), Value::Object(self.dns.0.clone()));
        }
        Value::Object(document)
    }

    fn write(&self, document: &mut Map<String, Value>, version: SpecVersion) {
        let interfaces: Vec<_> = self.interfaces.iter().map(|interface| interface.to_json(version)).collect();
        let ips: Vec<_> = self.ips.iter().map(|ip| ip.to_json(version)).collect();
        let routes: Vec<_> = self.routes.iter().map(Route::to_json).collect();
        for (name, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                document.insert(name.to_owned(), list.into());
            }
        }
    }

    /// 0.1.0 and 0.2.0: at most one address of each family, routes within it.
    fn write_legacy(&self, document: &mut Map<String, Value>) {
        for (name, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4) else { continue };
            let mut entry = json!({ "ip": ip.address.to_string() });
            let routes: Vec<_> = self
                .routes
                .iter()
                .filter(|route| route.destination.addr().is_ipv4() == v4)
                .map(Route::to_json)
                .collect();
            if let Some(gateway) = ip.gateway {
                entry["gateway"] = gateway.to_string().into();
            }
            if !routes.is_empty() {
                entry["routes"] = routes.into();
            }
            document.insert(name.to_owned(), entry);
        }
    }

    /// Reads a result of any version; the document's own `cniVersion` does not matter, its form does.
    ///
    /// # Errors
    /// The field that is not what a result has there.
    pub fn from_json(document: &Value) -> Result<Self, ResultError> {
        let object = document.as_object().ok_or_else(|| wrong("the document", "not an object"))?;
        let mut result = Self {
            interfaces: list(object, "interfaces", Interface::from_json)?,
            ips: list(object, "ips", |entry| Ip::from_json(entry, "address"))?,
            routes: list(object, "routes", Route::from_json)?,
            dns: Dns(object.get("dns").and_then(Value::as_object).cloned().unwrap_or_default()),
        };
        for name in ["ip4", "ip6"] {
            let Some(entry) = object.get(name).and_then(Value::as_object) else { continue };
            result.ips.push(Ip::from_json(entry, "ip")?);
            result.routes.extend(list(entry, "routes", Route::from_json)?);
        }
        Ok(result)
    }
}

fn list<T>(
    object: &Map<String, Value>,
    name: &str,
    read: impl Fn(&Map<String, Value>) -> Result<T, ResultError>,
) -> Result<Vec<T>, ResultError> {
    let entries = match object.get(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(value) => value.as_array().ok_or_else(|| wrong(name, "not a list"))?,
    };
    let read_one = |(index, entry): (usize, &Value)| {
        let entry = entry.as_object().ok_or_else(|| wrong(format!("{name}[{index}]"), "not an object"))?;
        read(entry).map_err(|error| wrong(format!("{name}[{index}].{}", error.field), error.reason))
    };
    entries.iter().enumerate().map(read_one).collect()
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn parsed<T: std::str::FromStr<Err: ToString>>(
    object: &Map<String, Value>,
    name: &str,
) -> Result<Option<T>, ResultError> {
    text(object, name)
        .map(|text| text.parse().map_err(|error: T::Err| wrong(name, error.to_string())))
        .transpose()
}

fn required<T: std::str::FromStr<Err: ToString>>(
    object: &Map<String, Value>,
    name: &str,
) -> Result<T, ResultError> {
    parsed(object, name)?.ok_or_else(|| wrong(name, "absent"))
}

impl Interface {
    fn to_json(&self, version: SpecVersion) -> Value {
        let mut entry = json!({ "name": self.name });
        for (name, value) in [("mac", &self.mac), ("sandbox", &self.sandbox)] {
            if !value.is_empty() {
                entry[name] = value.as_str().into();
            }
        }
        if let Some(mtu) = self.mtu.filter(|_| version >= SpecVersion::V1_1_0) {
            entry["mtu"] = mtu.into();
        }
        entry
    }

    fn from_json(entry: &Map<String, Value>) -> Result<Self, ResultError> {
        Ok(Self {
            name: text(entry, "name").ok_or_else(|| wrong("name", "absent"))?.to_owned(),
            mac: text(entry, "mac").unwrap_or_default().to_owned(),
            mtu: entry.get("mtu").and_then(Value::as_u64).and_then(|mtu| mtu.try_into().ok()),
            sandbox: text(entry, "sandbox").unwrap_or_default().to_owned(),
        })
    }
}

impl Ip {
    fn to_json(&self, version: SpecVersion) -> Value {
        let mut entry = json!({ "address": self.address.to_string() });
        if version < SpecVersion::V1_0_0 {
            entry["version"] = if self.address.addr().is_ipv4() { "4" } else { "6" }.into();
        }
        if let Some(gateway) = self.gateway {
            entry["gateway"] = gateway.to_string().into();
        }
        if let Some(interface) = self.interface {
            entry["interface"] = interface.into();
        }
        entry
    }

    fn from_json(entry: &Map<String, Value>, address: &str) -> Result<Self, ResultError> {
        Ok(Self {
            address: required(entry, address)?,
            gateway: parsed(entry, "gateway")?,
            interface: entry.get("interface").and_then(Value::as_u64).and_then(|index| index.try_into().ok()),
        })
    }
}

impl Route {
    fn to_json(&self) -> Value {
        let mut entry = json!({ "dst": self.destination.to_string() });
        if let Some(gateway) = self.gateway {
            entry["gw"] = gateway.to_string().into();
        }
        entry
    }

    fn from_json(entry: &Map<String, Value>) -> Result<Self, ResultError> {
        Ok(Self { destination: required(entry, "dst")?, gateway: parsed(entry, "gw")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dual() -> CniResult {
        let ip = |address: &str| Ip { address: address.parse().unwrap(), gateway: None, interface: Some(1) };
        CniResult {
            interfaces: vec![
                Interface { name: "cali1".into(), mac: "ee:ee:ee:ee:ee:ee".into(), ..Interface::default() },
                Interface {
                    name: "eth0".into(),
                    mtu: Some(1450),
                    sandbox: "/n".into(),
                    ..Interface::default()
                },
            ],
            ips: vec![ip("10.0.0.1/32"), ip("fd00::1/128")],
            routes: vec![Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                gateway: "169.254.1.1".parse().ok(),
            }],
            dns: Dns::default(),
        }
    }

    #[test]
    fn each_version_has_its_form_and_reads_back() {
        for version in SpecVersion::ALL {
            let document = dual().to_json(version);
            assert_eq!(document["cniVersion"], version.name());
            let back = CniResult::from_json(&document).unwrap();
            assert_eq!(back.ips.len(), 2, "{version}");
            if version > SpecVersion::V0_2_0 {
                assert_eq!(back.interfaces.len(), 2, "{version}");
                assert_eq!(document["ips"][0].get("version").is_some(), version < SpecVersion::V1_0_0);
                assert_eq!(document["interfaces"][1].get("mtu").is_some(), version >= SpecVersion::V1_1_0);
            }
        }
        assert_eq!(CniResult::from_json(&dual().to_json(SpecVersion::V1_1_0)).unwrap(), dual());
    }

    #[test]
    fn the_oldest_form_has_one_address_of_each_family_with_its_routes() {
        let document = dual().to_json(SpecVersion::V0_2_0);
        assert_eq!(
            document["ip4"],
            json!({"ip": "10.0.0.1/32", "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]})
        );
        assert_eq!(document["ip6"], json!({"ip": "fd00::1/128"}));
    }

    #[test]
    fn a_wrong_field_is_named_with_its_place() {
        let document = json!({"ips": [{"address": "10.0.0.1/32"}, {"address": "nonsense"}]});
        let error = CniResult::from_json(&document).unwrap_err().to_string();
        assert!(error.starts_with("not a CNI result: ips[1].address: "), "{error}");
    }
}
