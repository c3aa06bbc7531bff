//! `FelixConfiguration`: the parameters of the node agent. They are data, one row of [`PARAMETERS`] each; what a
//! parameter's value may be follows from its [`ParameterType`].

mod checks;
mod parameter_type;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess};
use serde::{Serialize, Serializer};
use serde_json::Value;

pub use parameter_type::ParameterType;
pub use table::PARAMETERS;

use crate::{Kind, NoStatus, Object, Spec};

/// Parameters of the node agent: `default` for all nodes, `node.NAME` for one.
pub type FelixConfiguration = Object<FelixConfigurationSpec>;

/// A parameter of the node agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in files; `FELIX_` and this in capitals in the environment.
    pub name: &'static str,
    /// Its field in the API; empty if it cannot be set there.
    pub field: &'static str,
    /// What sort of value it takes.
    pub kind: ParameterType,
    /// What it is when nobody sets it, as text; empty for nothing.
    pub default: &'static str,
    /// Whether a bad value ends the agent, rather than falling back to the default.
    pub is_fatal: bool,
}

impl Parameter {
    const fn fatal(mut self) -> Self {
        self.is_fatal = true;
        self
    }

    /// The parameter that has this field in the API.
    pub fn by_field(field: &str) -> Option<&'static Self> {
        PARAMETERS.iter().find(|parameter| !field.is_empty() && parameter.field == field)
    }

    /// The parameter of this name, in any case.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        PARAMETERS.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name))
    }
}

/// `spec` of a [`FelixConfiguration`]: the values that are set, by API field.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FelixConfigurationSpec {
    values: BTreeMap<&'static str, Value>,
}

impl FelixConfigurationSpec {
    /// The value of an API field, as JSON; `None` if it is not set.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.values.get(field)
    }

    /// Sets a parameter that the API has a field for; a null takes it away.
    pub fn set(&mut self, parameter: &'static Parameter, value: Value) {
        match value {
            Value::Null => self.values.remove(parameter.field),
            value => self.values.insert(parameter.field, value),
        };
    }

    /// What is set, in order of the fields.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Parameter, &Value)> {
        self.values.iter().filter_map(|(field, value)| Some((Parameter::by_field(field)?, value)))
    }
}

impl Serialize for FelixConfigurationSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.values)
    }
}

impl<'de> Deserialize<'de> for FelixConfigurationSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("FelixConfigurationSpec", &FIELDS, SpecVisitor)
    }
}

/// The fields of the API, for deserializers that want to know them.
const FIELDS: [&str; FIELD_COUNT] = {
    let mut fields = [""; FIELD_COUNT];
    let (mut from, mut to) = (0, 0);
    while from < PARAMETERS.len() {
        if !PARAMETERS[from].field.is_empty() {
            fields[to] = PARAMETERS[from].field;
            to += 1;
        }
        from += 1;
    }
    fields
};

const FIELD_COUNT: usize = {
    let (mut index, mut count) = (0, 0);
    while index < PARAMETERS.len() {
        if !PARAMETERS[index].field.is_empty() {
            count += 1;
        }
        index += 1;
    }
    count
};

struct SpecVisitor;

impl<'de> de::Visitor<'de> for SpecVisitor {
    type Value = FelixConfigurationSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut spec = FelixConfigurationSpec::default();
        while let Some(field) = map.next_key::<String>()? {
            match Parameter::by_field(&field) {
                Some(parameter) => spec.set(parameter, map.next_value()?),
                None => drop(map.next_value::<de::IgnoredAny>()?),
            }
        }
        Ok(spec)
    }
}

impl Spec for FelixConfigurationSpec {
    const KIND: Kind = Kind::FelixConfiguration;
    type Status = NoStatus;
}
