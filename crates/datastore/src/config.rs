//! Which datastore: from the environment, or from a CalicoAPIConfig file (`/etc/calico/calicoctl.cfg`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::{Sqlite, Store, StoreError};

/// The embedded datastore's file when nothing else is said.
pub const DEFAULT_FILE: &str = "/var/lib/calico/tortie.db";

/// Where calicoctl looks for its configuration when nothing else is said.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/calico/calicoctl.cfg";

/// The variable that names the type of the datastore, as in Calico. Ours can be `embedded`, which is the default.
const TYPE_VARIABLE: &str = "DATASTORE_TYPE";

/// The variable that names the embedded datastore's file.
const FILE_VARIABLE: &str = "TORTIE_DATASTORE";

/// Calico's variable for etcd: it says that a user expects etcd even if the type is not given.
const ETCD_VARIABLE: &str = "ETCD_ENDPOINTS";

/// A datastore that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatastoreConfig {
    /// One file on this machine.
    Embedded {
        /// The file.
        file: PathBuf,
    },
}

/// Why a configuration cannot be used. Names the variable, or the file and field.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file is not a CalicoAPIConfig in YAML or JSON.
    #[error("configuration file {}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// A type of datastore that Calico has and Tortie not yet.
    #[error("{place}: the datastore `{value}` cannot be used by this version of Tortie yet; use `embedded`")]
    NotBuilt {
        /// The variable, or the file and field.
        place: String,
        /// The type.
        value: String,
    },
    /// No type of datastore.
    #[error("{place}: there is no datastore type `{value}`; use `embedded`")]
    UnknownType {
        /// The variable, or the file and field.
        place: String,
        /// What it says.
        value: String,
    },
    /// A setting that means nothing to the chosen datastore.
    #[error("{place} has no meaning for the datastore `embedded`; remove it")]
    Inapplicable {
        /// The file and field.
        place: String,
    },
    /// No field of a CalicoAPIConfig.
    #[error(
        "{place} is no field of a CalicoAPIConfig; the embedded datastore has datastoreType and embeddedFile"
    )]
    UnknownField {
        /// The file and field.
        place: String,
    },
}

/// Fields of `spec` that Calico knows, beside `datastoreType`; all of them are about etcd or Kubernetes.
const OTHER_FIELDS: [&str; 22] = [
    "etcdEndpoints",
    "etcdDiscoverySrv",
    "etcdUsername",
    "etcdPassword",
    "etcdKeyFile",
    "etcdCertFile",
    "etcdCACertFile",
    "etcdKey",
    "etcdCert",
    "etcdCACert",
    "kubeconfig",
    "kubeconfigInline",
    "k8sAPIEndpoint",
    "k8sKeyFile",
    "k8sCertFile",
    "k8sCAFile",
    "k8sAPIToken",
    "k8sInsecureSkipTLSVerify",
    "k8sDisableNodePoll",
    "k8sUsePodCIDR",
    "k8sClientQPS",
    "k8sCurrentContext",
];

impl DatastoreConfig {
    /// Reads the environment through `variable`. A variable that is set but empty counts as not set.
    ///
    /// | variable | means | default |
    /// |---|---|---|
    /// | `DATASTORE_TYPE` | `embedded` | `embedded` |
    /// | `TORTIE_DATASTORE` | the embedded datastore's file | [`DEFAULT_FILE`] |
    ///
    /// `ETCD_ENDPOINTS` without either of them means etcd, as in Calico, and not the embedded datastore.
    ///
    /// # Errors
    /// A datastore type that does not exist or is not built yet.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let file = set(FILE_VARIABLE);
        match set(TYPE_VARIABLE) {
            Some(value) => check_type(TYPE_VARIABLE.to_owned(), &value)?,
            None if file.is_none() && set(ETCD_VARIABLE).is_some() => {
                return Err(not_built(format!("{ETCD_VARIABLE} without {TYPE_VARIABLE}"), "etcdv3"));
            }
            None => {}
        }
        Ok(Self::Embedded { file: file.unwrap_or_else(|| DEFAULT_FILE.to_owned()).into() })
    }

    /// Reads a CalicoAPIConfig, whose `spec` is `datastoreType: embedded` and `embeddedFile` (default
    /// [`DEFAULT_FILE`]). Without `datastoreType`, fields about etcd mean etcd, as in Calico.
    ///
    /// # Errors
    /// The file cannot be read, is no such document, or names what is not built yet.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::from_text(path, &text)
    }

    /// Decides where to look: a file that was asked for (`calicoctl --config`), else `TORTIE_DATASTORE`, else
    /// [`DEFAULT_CONFIG_FILE`] if it exists, else the rest of the environment. (Calico's order, with our variable
    /// before the default file so that a script can choose a datastore whatever a machine has in `/etc`.)
    ///
    /// # Errors
    /// As [`DatastoreConfig::from_file`] and [`DatastoreConfig::from_environment`].
    pub fn load(
        asked_for: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        if let Some(path) = asked_for {
            return Self::from_file(path);
        }
        let default = Path::new(DEFAULT_CONFIG_FILE);
        if variable(FILE_VARIABLE).is_none_or(|file| file.is_empty()) && default.exists() {
            return Self::from_file(default);
        }
        Self::from_environment(variable)
    }

    fn from_text(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let malformed = |reason: String| ConfigError::Malformed { path: path.to_owned(), reason };
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let place = |field: &str| format!("configuration file {}: {field}", path.display());
        for (field, found, expected) in [
            ("kind", &document.kind, "CalicoAPIConfig"),
            ("apiVersion", &document.api_version, "projectcalico.org/v3"),
        ] {
            if found != expected {
                return Err(malformed(format!("{field} is `{found}` and should be `{expected}`")));
            }
        }
        document.spec.choose(&place)
    }

    /// Opens the datastore. The folder of [`DEFAULT_FILE`] is made if it is not there; any other has to exist.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        let Self::Embedded { file } = self;
        if file == Path::new(DEFAULT_FILE)
            && let Some(folder) = file.parent()
        {
            // If it cannot be made, opening says so, and why.
            let _ = std::fs::create_dir_all(folder);
        }
        Ok(Arc::new(Sqlite::open(file)?))
    }

    /// As [`DatastoreConfig::open`], but never makes a datastore: for reading and deleting, where a mistyped path must
    /// not look like an empty cluster.
    ///
    /// # Errors
    /// As [`Sqlite::open`], and [`StoreError::Unavailable`] when there is no such file.
    pub fn open_existing(&self) -> Result<Arc<dyn Store>, StoreError> {
        let Self::Embedded { file } = self;
        if !file.try_exists().unwrap_or(true) {
            return Err(StoreError::Unavailable {
                location: file.display().to_string(),
                reason: format!(
                    "does not exist; start `tortie node`, which makes it, or name another file with {FILE_VARIABLE}"
                ),
                temporary: false,
            });
        }
        self.open()
    }

    /// The environment that makes another process of ours use the same datastore.
    pub fn to_environment(&self) -> Vec<(String, String)> {
        let Self::Embedded { file } = self;
        vec![
            (TYPE_VARIABLE.to_owned(), "embedded".to_owned()),
            (FILE_VARIABLE.to_owned(), file.display().to_string()),
        ]
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: Option<serde_json::Value>,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Spec {
    datastore_type: Option<String>,
    embedded_file: Option<PathBuf>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

impl Spec {
    fn choose(self, place: &impl Fn(&str) -> String) -> Result<DatastoreConfig, ConfigError> {
        let place = |field: &str| place(&format!("spec.{field}"));
        if let Some(unknown) = self.others.keys().find(|field| !OTHER_FIELDS.contains(&field.as_str())) {
            return Err(ConfigError::UnknownField { place: place(unknown) });
        }
        let other = self.others.keys().next();
        match (&self.datastore_type, other) {
            (Some(value), _) => check_type(place("datastoreType"), value)?,
            (None, Some(field)) if self.embedded_file.is_none() => {
                return Err(not_built(place(field), "etcdv3"));
            }
            (None, _) => {}
        }
        if let Some(field) = other {
            return Err(ConfigError::Inapplicable { place: place(field) });
        }
        Ok(DatastoreConfig::Embedded { file: self.embedded_file.unwrap_or_else(|| DEFAULT_FILE.into()) })
    }
}

fn check_type(place: String, value: &str) -> Result<(), ConfigError> {
    match value {
        "embedded" => Ok(()),
        "etcdv3" | "kubernetes" => Err(not_built(place, value)),
        _ => Err(ConfigError::UnknownType { place, value: value.to_owned() }),
    }
}

fn not_built(place: String, value: &str) -> ConfigError {
    ConfigError::NotBuilt { place, value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Result<DatastoreConfig, ConfigError> {
        DatastoreConfig::from_environment(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn embedded(file: &str) -> DatastoreConfig {
        DatastoreConfig::Embedded { file: file.into() }
    }

    fn file(spec: &str) -> Result<DatastoreConfig, ConfigError> {
        let head = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n";
        DatastoreConfig::from_text(Path::new("calicoctl.cfg"), &format!("{head}{spec}"))
    }

    #[track_caller]
    fn assert_refused(config: Result<DatastoreConfig, ConfigError>, words: &[&str]) {
        let text = config.expect_err("it is not usable").to_string();
        for word in words {
            assert!(text.contains(word), "`{text}` does not say `{word}`");
        }
    }

    #[test]
    fn the_environment_defaults_to_the_embedded_datastore() {
        assert_eq!(environment(&[]).expect("usable"), embedded(DEFAULT_FILE));
        assert_eq!(environment(&[("DATASTORE_TYPE", "")]).expect("usable"), embedded(DEFAULT_FILE));
        let chosen = environment(&[("DATASTORE_TYPE", "embedded"), ("TORTIE_DATASTORE", "/x.db")]);
        assert_eq!(chosen.expect("usable"), embedded("/x.db"));
        let chosen = environment(&[("ETCD_ENDPOINTS", "http://e:2379"), ("TORTIE_DATASTORE", "/x.db")]);
        assert_eq!(chosen.expect("usable"), embedded("/x.db"));
    }

    #[test]
    fn the_environment_is_refused_by_variable_and_value() {
        assert_refused(
            environment(&[("DATASTORE_TYPE", "etcdv3")]),
            &["DATASTORE_TYPE", "`etcdv3`", "`embedded`"],
        );
        assert_refused(environment(&[("DATASTORE_TYPE", "kubernetes")]), &["DATASTORE_TYPE", "`kubernetes`"]);
        assert_refused(environment(&[("DATASTORE_TYPE", "sql")]), &["DATASTORE_TYPE", "`sql`", "`embedded`"]);
        assert_refused(environment(&[("ETCD_ENDPOINTS", "http://e:2379")]), &["ETCD_ENDPOINTS", "`etcdv3`"]);
    }

    #[test]
    fn the_environment_survives_the_round_trip() {
        let config = embedded("/somewhere/x.db");
        let variables = config.to_environment();
        let again = DatastoreConfig::from_environment(|name| {
            variables.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.clone())
        });
        assert_eq!(again.expect("usable"), config);
    }

    #[test]
    fn a_file_can_choose_the_embedded_datastore() {
        let chosen = file("  datastoreType: embedded\n  embeddedFile: /x.db\n");
        assert_eq!(chosen.expect("usable"), embedded("/x.db"));
        assert_eq!(file("  embeddedFile: /x.db\n").expect("usable"), embedded("/x.db"));
        assert_eq!(file("  datastoreType: embedded\n").expect("usable"), embedded(DEFAULT_FILE));
        let json = r#"{"apiVersion": "projectcalico.org/v3", "kind": "CalicoAPIConfig",
                       "spec": {"datastoreType": "embedded", "embeddedFile": "/x.db"}}"#;
        let chosen = DatastoreConfig::from_text(Path::new("calicoctl.json"), json);
        assert_eq!(chosen.expect("usable"), embedded("/x.db"));
    }

    #[test]
    fn a_file_is_refused_by_field_and_value() {
        assert_refused(
            file("  datastoreType: etcdv3\n  etcdEndpoints: http://e:2379\n"),
            &["calicoctl.cfg", "spec.datastoreType", "`etcdv3`"],
        );
        assert_refused(file("  etcdEndpoints: http://e:2379\n"), &["spec.etcdEndpoints", "`etcdv3`"]);
        assert_refused(file("  datastoreType: kubernetes\n  kubeconfig: /k\n"), &["`kubernetes`"]);
        assert_refused(
            file("  datastoreType: embedded\n  etcdEndpoints: http://e:2379\n"),
            &["spec.etcdEndpoints", "no meaning"],
        );
        assert_refused(file("  datastoreTyp: embedded\n"), &["spec.datastoreTyp", "no field"]);
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let read = |text| DatastoreConfig::from_text(Path::new("x.cfg"), text);
        assert_refused(
            read("apiVersion: projectcalico.org/v3\nkind: IPPool\n"),
            &["x.cfg", "kind", "`IPPool`"],
        );
        assert_refused(read("apiVersion: v1\nkind: CalicoAPIConfig\n"), &["x.cfg", "apiVersion", "`v1`"]);
        assert_refused(read("kind: CalicoAPIConfig\n"), &["x.cfg", "apiVersion"]);
        assert_refused(read("{"), &["x.cfg"]);
        assert_refused(
            DatastoreConfig::from_file(Path::new("/no/such.cfg")),
            &["/no/such.cfg", "No such file"],
        );
    }

    #[test]
    fn a_datastore_that_has_to_exist_is_not_made() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("x.db");
        let config = DatastoreConfig::Embedded { file: file.clone() };
        let error = config.open_existing().err().expect("there is none").to_string();
        assert!(error.contains("x.db") && error.contains("does not exist"), "{error}");
        assert!(!file.exists(), "it was made");
        config.open().expect("it is made");
        config.open_existing().expect("it is there");
    }

    #[test]
    fn an_asked_for_file_comes_before_the_environment() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("calicoctl.cfg");
        let text =
            "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n  embeddedFile: /file.db\n";
        std::fs::write(&path, text).expect("a new file");
        let variable = |name: &str| (name == "TORTIE_DATASTORE").then(|| "/environment.db".to_owned());
        assert_eq!(DatastoreConfig::load(Some(&path), variable).expect("usable"), embedded("/file.db"));
        assert_eq!(DatastoreConfig::load(None, variable).expect("usable"), embedded("/environment.db"));
    }
}
