use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use ctl::Console;
use datastore::{Sqlite, Store};

/// A folder with a datastore, and calicoctl on it.
pub(crate) struct World {
    folder: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: u8,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl World {
    /// With an empty datastore.
    pub(crate) fn new() -> Self {
        let world = Self::without_datastore();
        drop(world.store());
        world
    }

    pub(crate) fn without_datastore() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let datastore = folder.path().join("x.db").display().to_string();
        Self { folder, variables: BTreeMap::from([("TORTIE_DATASTORE", datastore)]) }
    }

    /// With the resources of a file.
    pub(crate) fn with(text: &str) -> Self {
        let world = Self::new();
        world.run_with_input(&["apply", "-f", "-"], text).succeeded();
        world
    }

    pub(crate) fn store(&self) -> impl Store + use<> {
        Sqlite::open(self.datastore()).expect("a datastore")
    }

    pub(crate) fn datastore(&self) -> PathBuf {
        self.folder.path().join("x.db")
    }

    pub(crate) fn set(&mut self, variable: &'static str, value: String) {
        self.variables.insert(variable, value);
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        std::fs::write(&path, text).expect("a new file");
        path.display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_input(arguments, "")
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let mut console = Console {
            input: &mut input.as_bytes(),
            output: &mut output,
            errors: &mut errors,
            variable: &|name| self.variables.get(name).cloned(),
        };
        let words = std::iter::once("calicoctl").chain(arguments.iter().copied()).map(OsString::from);
        let code = ctl::run_in(words, &mut console);
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Outcome { code, output: text(output), errors: text(errors) }
    }

    /// All that the datastore holds of what users write.
    pub(crate) fn snapshot(&self) -> Vec<(String, String, String)> {
        let scopes: Vec<_> = api::Kind::ALL.iter().map(|kind| datastore::Scope::all(*kind)).collect();
        let entries = self.store().list_scopes(&scopes).expect("a listing").entries;
        entries
            .into_iter()
            .map(|entry| (entry.key.to_string(), entry.value, entry.revision.to_string()))
            .collect()
    }
}

impl Outcome {
    /// The standard output of a run that succeeded and had nothing to complain of.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!((self.code, self.errors.as_str()), (0, ""), "{self:?}");
        self.output
    }

    /// Checks that a run failed with an error that says all of `words`.
    #[track_caller]
    pub(crate) fn failed(self, words: &[&str]) -> Self {
        assert_eq!(self.code, 1, "{self:?}");
        for word in words {
            assert!(self.errors.contains(word), "the error does not say {word:?}:\n{}", self.errors);
        }
        self
    }

    /// Checks that the command line was refused, for this reason.
    #[track_caller]
    pub(crate) fn misused(self, words: &[&str]) {
        assert_eq!((self.code, self.output.as_str()), (2, ""), "{self:?}");
        for word in words {
            assert!(self.errors.contains(word), "the error does not say {word:?}:\n{}", self.errors);
        }
    }
}

/// An IPPool.
pub(crate) fn pool(name: &str, cidr: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: {name}\nspec:\n  cidr: {cidr}\n---\n"
    )
}

/// Any resource, as `kind`, the inside of `metadata` and that of `spec` in flow style.
pub(crate) fn resource(kind: &str, metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n---\n"
    )
}

/// A Kubernetes NetworkPolicy that selects everything.
pub(crate) fn kubernetes_policy(name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {name}\nspec:\n  podSelector: {{}}\n---\n"
    )
}
