//! A file of resources in place of a datastore.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::documents::{self, Document, DocumentErrors};
use api::{AffinityOwner, BlockAffinityState, IpamBlockAffinity, Key, Resource, Row};
use datastore::Update;

/// Why a file cannot be used. Nothing of it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a file of resources.
    #[error("{}: {errors}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        errors: DocumentErrors,
    },
    /// One resource twice: it is not known which is meant.
    #[error("{}: {key} is there twice; keep one of the two", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// What is there twice.
        key: Key,
    },
    /// It does not say who we are.
    #[error("{}: has no Node {node}; add it, or name another with --node", path.display())]
    NoNode {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        node: String,
    },
}

type Rows = BTreeMap<Key, Arc<Row>>;

/// The file, and what was read of it last.
#[derive(Debug)]
pub(crate) struct ResourceFile {
    path: PathBuf,
    /// The Node that has to be in it.
    node: String,
    rows: Rows,
    /// What the file looked like when it was read last.
    read: Option<Stamp>,
    /// What it looked like at the last look.
    seen: Option<Stamp>,
}

/// By what a changed file is told: modified (seconds and nanoseconds), length, inode.
type Stamp = (i64, i64, u64, u64);

impl ResourceFile {
    /// The file, not read yet.
    pub(crate) fn new(path: &Path, node: &str) -> Self {
        Self { path: path.to_owned(), node: node.to_owned(), rows: Rows::new(), read: None, seen: None }
    }

    /// Whether the file is another than the one that was read, and has been for two looks in a row: not while somebody is
    /// still writing it.
    pub(crate) fn has_changed(&mut self) -> bool {
        let now = stamp(&self.path);
        let is_steady = std::mem::replace(&mut self.seen, now) == now;
        is_steady && now.is_some() && now != self.read
    }

    /// Reads the file, and gives the rows that differ from what was read before. A file that cannot be used changes
    /// nothing.
    ///
    /// # Errors
    /// See [`FileError`].
    pub(crate) fn read(&mut self) -> Result<Vec<Update>, FileError> {
        self.read = stamp(&self.path);
        let path = self.path.clone();
        let text = fs::read_to_string(&path)
            .map_err(|source| FileError::Unreadable { path: path.clone(), source })?;
        let documents =
            documents::load(&text).map_err(|errors| FileError::Malformed { path: path.clone(), errors })?;
        let mut rows = Rows::new();
        for document in documents {
            let row = row(document);
            let key = row.key();
            if rows.insert(key.clone(), Arc::new(row)).is_some() {
                return Err(FileError::Twice { path, key });
            }
        }
        if !rows.contains_key(&Key::cluster(api::Kind::Node, &self.node)) {
            return Err(FileError::NoNode { path, node: self.node.clone() });
        }
        let updates = difference(&self.rows, &rows);
        self.rows = rows;
        Ok(updates)
    }

    /// The kinds in the file that `is_used` does not know, each once.
    pub(crate) fn unused_kinds(&self, is_used: impl Fn(api::Kind) -> bool) -> BTreeSet<&'static str> {
        let kinds = self.rows.keys().filter_map(|key| match key {
            Key::Resource { kind, .. } => Some(*kind),
            _ => None,
        });
        kinds.filter(|kind| !is_used(*kind)).map(api::Kind::name).collect()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
}

/// As a datastore keeps it: a claim on a block is IPAM's row.
fn row(document: Document) -> Row {
    match document.into_resource() {
        Resource::BlockAffinity(affinity) => {
            let spec = affinity.spec;
            let owner = match spec.affinity_type.as_str() {
                "virtual" => AffinityOwner::Virtual(spec.node),
                _ => AffinityOwner::Host(spec.node),
            };
            let state = match spec.state.as_str() {
                "pending" => BlockAffinityState::Pending,
                "pendingDeletion" => BlockAffinityState::PendingDeletion,
                _ => BlockAffinityState::Confirmed,
            };
            Row::BlockAffinity(IpamBlockAffinity::new(owner, spec.cidr.net().trunc(), state))
        }
        resource => Row::Resource(resource),
    }
}

fn difference(old: &Rows, new: &Rows) -> Vec<Update> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let gone = gone.map(|key| Update { key: key.clone(), row: None });
    let changed = new.iter().filter(|(key, row)| old.get(*key) != Some(*row));
    gone.chain(changed.map(|(key, row)| Update { key: key.clone(), row: Some(row.clone()) })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1}\n\
                        spec: {bgp: {ipv4Address: 10.0.0.1/24}}\n";
    const BLOCK: &str = "apiVersion: projectcalico.org/v3\nkind: BlockAffinity\nmetadata: {name: b}\n\
                         spec: {state: confirmed, node: n1, cidr: 10.65.0.0/26}\n";

    fn file(folder: &tempfile::TempDir, documents: &[&str]) -> ResourceFile {
        let path = folder.path().join("resources.yaml");
        write(&path, documents);
        ResourceFile::new(&path, "n1")
    }

    fn write(path: &Path, documents: &[&str]) {
        fs::write(path, documents.join("---\n")).unwrap();
    }

    fn keys(updates: &[Update]) -> Vec<(String, bool)> {
        updates.iter().map(|update| (update.key.to_string(), update.row.is_some())).collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(&folder, &[NODE, BLOCK]);
        let block = "affinity of host:n1 for block 10.65.0.0/26".to_owned();
        assert_eq!(keys(&file.read().unwrap()), [("Node n1".to_owned(), true), (block.clone(), true)]);
        assert_eq!(keys(&file.read().unwrap()), []);
        write(&file.path, &[NODE]);
        assert_eq!(keys(&file.read().unwrap()), [(block, false)]);
    }

    #[test]
    fn a_file_that_cannot_be_used_changes_nothing_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(&folder, &[NODE, BLOCK]);
        file.read().unwrap();
        let bad = [
            (vec![NODE, NODE], "Node n1 is there twice"),
            (vec![BLOCK], "has no Node n1"),
            (vec![NODE, "kind: IPPool\n"], "document 2"),
            (vec!["{"], "document 1"),
        ];
        for (documents, expected) in bad {
            write(&file.path, &documents);
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("resources.yaml"), "{error}");
        }
        write(&file.path, &[NODE, BLOCK]);
        assert_eq!(keys(&file.read().unwrap()), []);
    }

    #[test]
    fn a_changed_file_is_noticed_once_it_rests() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(&folder, &[NODE]);
        file.read().unwrap();
        assert!(!file.has_changed() && !file.has_changed());
        write(&file.path, &[NODE, BLOCK]);
        assert!(!file.has_changed(), "it may still be written");
        assert!(file.has_changed());
        file.read().unwrap();
        assert!(!file.has_changed());
        fs::remove_file(&file.path).unwrap();
        assert!(!file.has_changed() && !file.has_changed(), "a file that is not there is no other file");
    }

    #[test]
    fn kinds_that_nobody_reads_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = file(&folder, &[NODE, BLOCK]);
        file.read().unwrap();
        assert!(file.unused_kinds(|kind| kind == api::Kind::Node).is_empty());
        assert_eq!(file.unused_kinds(|_| false).into_iter().collect::<Vec<_>>(), ["Node"]);
    }
}
