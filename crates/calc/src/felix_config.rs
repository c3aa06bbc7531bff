//! The parameters of the node agent that the datastore sets: those of `default`, under those of `node.NAME`.

mod text;

use std::collections::BTreeMap;

use api::FelixConfigurationSpec;

use crate::convert::GLOBAL_CONFIGURATION;

/// Both configurations, and what they come to.
#[derive(Debug)]
pub(crate) struct FelixConfig {
    node_row: String,
    global: Parameters,
    node: Parameters,
    /// What was last handed on.
    published: Option<Parameters>,
}

/// Values by parameter name, as the environment writes them.
type Parameters = BTreeMap<String, String>;

impl FelixConfig {
    /// For this node.
    pub(crate) fn new(node_name: &str) -> Self {
        Self {
            node_row: format!("node.{node_name}"),
            global: Parameters::new(),
            node: Parameters::new(),
            published: None,
        }
    }

    /// Replaces one of the configurations; those of other nodes are nothing to us.
    pub(crate) fn set(&mut self, name: &str, spec: Option<&FelixConfigurationSpec>) {
        let values = spec.map(parameters).unwrap_or_default();
        if name == GLOBAL_CONFIGURATION {
            self.global = values;
        } else if name == self.node_row {
            self.node = values;
        }
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, parameter: &str) -> Option<&str> {
        self.node.get(parameter).or_else(|| self.global.get(parameter)).map(String::as_str)
    }

    /// All parameters, if any has changed since the last flush; at the first flush, however few there are.
    pub(crate) fn flush(&mut self) -> Option<Parameters> {
        let mut merged = self.global.clone();
        merged.extend(self.node.clone());
        if self.published.as_ref() == Some(&merged) {
            return None;
        }
        self.published = Some(merged.clone());
        Some(merged)
    }

    pub(crate) fn size(&self) -> usize {
        self.global.len() + self.node.len() + self.published.as_ref().map_or(0, BTreeMap::len)
    }
}

/// The parameters of `default` under those of `node.NAME`, by name, as the environment writes them: what
/// [`crate::contract::Change::ConfigUpdate`] tells, for who needs it before there is a [`crate::Graph`].
pub fn felix_parameters(
    global: Option<&FelixConfigurationSpec>,
    node: Option<&FelixConfigurationSpec>,
) -> BTreeMap<String, String> {
    [global, node].into_iter().flatten().flat_map(parameters).collect()
}

fn parameters(spec: &FelixConfigurationSpec) -> Parameters {
    let set = spec.iter().filter_map(|(parameter, value)| {
        let text = text::of(parameter, value)?;
        Some((parameter.name.to_owned(), text))
    });
    set.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> FelixConfigurationSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_nodes_own_value_wins_parameter_by_parameter() {
        let mut config = FelixConfig::new("n1");
        let global = spec(serde_json::json!({"defaultEndpointToHostAction": "Accept", "ipv6Support": false}));
        config.set("default", Some(&global));
        config.set("node.n1", Some(&spec(serde_json::json!({"defaultEndpointToHostAction": "Return"}))));
        config.set("node.n2", Some(&spec(serde_json::json!({"ipv6Support": true}))));
        let merged = config.flush().unwrap();
        assert_eq!(merged["DefaultEndpointToHostAction"], "RETURN");
        assert_eq!(merged["Ipv6Support"], "false");
        assert_eq!((merged.len(), config.flush()), (2, None));
        config.set("node.n1", None);
        assert_eq!(config.flush().unwrap()["DefaultEndpointToHostAction"], "ACCEPT");
    }
}
