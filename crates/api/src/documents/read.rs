use super::{Document, DocumentError, DocumentErrors, KubernetesDocument, Observed};
use crate::decode::{self, Content, Problem, Tree, parse_yaml};
use crate::resource::kind_of;
use crate::{API_VERSION, Kind, Resource, Violation, kubernetes};

/// Reads all objects of a file, lists taken apart.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn read(text: &str) -> Result<Vec<Document>, DocumentErrors> {
    read_as(text, Mode::Read)
}

/// As [`read`], and fills in defaults and checks the rules of every kind.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn load(text: &str) -> Result<Vec<Document>, DocumentErrors> {
    read_as(text, Mode::Load)
}

/// As [`load`]; namespaced objects that name no namespace go into this one rather than `default`.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn load_into(text: &str, namespace: &str) -> Result<Vec<Document>, DocumentErrors> {
    read_in(text, Mode::Load, Some(namespace))
}

/// As [`load`], and takes in Kubernetes objects that say what is there: pods, services and their endpoints. Those are read
/// as a cluster shows them (`kubectl get … -o yaml`): fields that nobody here needs are skipped.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn load_cluster(text: &str) -> Result<(Vec<Document>, Vec<Observed>), DocumentErrors> {
    let mut reader = Reader { observed: Some(Vec::new()), ..Reader::new(Mode::Load, None) };
    reader.read_all(text)?;
    Ok((reader.documents, reader.observed.unwrap_or_default()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    Load,
}

fn read_as(text: &str, mode: Mode) -> Result<Vec<Document>, DocumentErrors> {
    read_in(text, mode, None)
}

fn read_in(text: &str, mode: Mode, namespace: Option<&str>) -> Result<Vec<Document>, DocumentErrors> {
    let mut reader = Reader::new(mode, namespace);
    reader.read_all(text)?;
    Ok(reader.documents)
}

struct Reader<'a> {
    mode: Mode,
    /// Of objects that name none.
    namespace: Option<&'a str>,
    documents: Vec<Document>,
    /// Where what is there goes, if it is wanted.
    observed: Option<Vec<Observed>>,
    errors: Vec<DocumentError>,
}

impl<'a> Reader<'a> {
    fn new(mode: Mode, namespace: Option<&'a str>) -> Self {
        Self { mode, namespace, documents: Vec::new(), observed: None, errors: Vec::new() }
    }

    fn read_all(&mut self, text: &str) -> Result<(), DocumentErrors> {
        let parsed = parse_yaml(text)
            .map_err(|(number, problem)| DocumentErrors(vec![DocumentError::new(number, "", problem)]))?;
        for document in &parsed {
            self.read(document.number, "", &document.tree);
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        let mut errors = std::mem::take(&mut self.errors);
        errors.sort_by_key(|error| (error.document, error.line));
        Err(DocumentErrors(errors))
    }

    /// Reads an object; `place` is where it is in a list.
    fn read(&mut self, number: usize, place: &str, tree: &Tree) {
        let result = match (&tree.content, list_of(tree)) {
            (Content::Map(_), Some(item_type)) => return self.read_list(number, place, tree, item_type),
            (Content::Map(_), None) if self.observed.is_some() && is_observed(tree) => {
                return self.observe(number, place, tree);
            }
            (Content::Map(_), None) => self.object(tree),
            _ => Err(vec![Problem {
                line: tree.line,
                ..Problem::whole("has to be an object with apiVersion, kind, metadata and spec".to_owned())
            }]),
        };
        match result {
            Ok(document) => self.documents.push(document),
            Err(problems) => self.fail(number, place, tree, problems),
        }
    }

    fn observe(&mut self, number: usize, place: &str, tree: &Tree) {
        let read = match text(tree, "kind") {
            "Pod" => decode::lenient(tree).map(|pod| Observed::Pod(Box::new(pod))),
            "Service" => decode::lenient(tree).map(Observed::Service),
            _ => decode::lenient(tree).map(Observed::EndpointSlice),
        };
        match read {
            Ok(object) => self.observed.get_or_insert_default().push(object),
            Err(problems) => self.fail(number, place, tree, problems),
        }
    }

    fn object(&self, tree: &Tree) -> Result<Document, Vec<Problem>> {
        let placed =
            self.namespace.filter(|_| is_namespaced(tree)).map(|namespace| in_namespace(tree, namespace));
        let tree = placed.as_ref().unwrap_or(tree);
        if is_kubernetes(tree) {
            let mut resource = kubernetes::stored_from_tree(tree)?;
            if self.mode == Mode::Load {
                resource.apply_defaults();
            }
            return Ok(Document::Kubernetes(kubernetes_document(tree, resource)));
        }
        let kind = kind_of(tree).map_err(|problem| vec![problem])?;
        let mut resource = Resource::from_tree(kind, tree)?;
        if self.mode == Mode::Load {
            resource.apply_defaults();
            resource.validate().map_err(|violations| located(violations, tree))?;
        }
        Ok(Document::Calico(resource))
    }

    fn read_list(&mut self, number: usize, place: &str, tree: &Tree, item_type: ItemType<'_>) {
        for (name, value) in entries(tree) {
            if !["apiVersion", "kind", "metadata", "items"].contains(&name.as_str()) {
                let reason =
                    "is not a field of a list; known are apiVersion, kind, metadata, items".to_owned();
                let problem = Problem { field: name.clone(), line: value.line, value: None, reason };
                self.fail(number, place, tree, vec![problem]);
            }
        }
        match tree.get("items").map(|items| &items.content) {
            None | Some(Content::Null) => {}
            Some(Content::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.read(number, &format!("{place}items[{index}]."), &item_type.fill_in(item));
                }
            }
            Some(_) => {
                let problem = Problem {
                    field: "items".to_owned(),
                    line: tree.line_of("items"),
                    ..Problem::whole("has to be a list".to_owned())
                };
                self.fail(number, place, tree, vec![problem]);
            }
        }
    }

    fn fail(&mut self, number: usize, place: &str, tree: &Tree, problems: Vec<Problem>) {
        let object = describe(tree);
        self.errors.extend(problems.into_iter().map(|problem| {
            let field = format!("{place}{}", problem.field);
            let field = field.trim_end_matches('.').to_owned();
            // What is missing is missing from the object.
            let line = if problem.line == 0 { tree.line } else { problem.line };
            DocumentError::new(number, &object, Problem { field, line, ..problem })
        }));
    }
}

/// Violations with the lines of their fields.
fn located(violations: Vec<Violation>, tree: &Tree) -> Vec<Problem> {
    let located = |violation: Violation| Problem {
        line: tree.line_of(&violation.field),
        field: violation.field,
        value: violation.value,
        reason: violation.reason,
    };
    violations.into_iter().map(located).collect()
}

/// What a list says of its items.
struct ItemType<'a> {
    /// `apiVersion` and `kind`, for lists of one kind.
    of_one_kind: Option<(&'a str, &'a str)>,
}

impl ItemType<'_> {
    /// The item; what the list says of all of them is filled in where it does not say it itself.
    fn fill_in(&self, item: &Tree) -> Tree {
        let mut item = item.clone();
        let line = item.line;
        if let (Some((api_version, kind)), Content::Map(entries)) = (self.of_one_kind, &mut item.content) {
            for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
                if !entries.iter().any(|(known, _)| known == name) {
                    entries.push((name.to_owned(), Tree { line, content: Content::Text(value.to_owned()) }));
                }
            }
        }
        item
    }
}

/// Whether the object is a list, and of what.
fn list_of(tree: &Tree) -> Option<ItemType<'_>> {
    let (api_version, kind) = (text(tree, "apiVersion"), text(tree, "kind"));
    match kind.strip_suffix("List")? {
        "" => Some(ItemType { of_one_kind: None }),
        item if is_known(api_version, item) => Some(ItemType { of_one_kind: Some((api_version, item)) }),
        _ => None,
    }
}

fn is_known(api_version: &str, kind: &str) -> bool {
    let is_calico = api_version == API_VERSION && Kind::ALL.iter().any(|known| known.name() == kind);
    is_calico || kubernetes::is_storable(api_version, kind) || is_observable(api_version, kind)
}

/// Whether [`load_cluster`] takes the object in as something that is there.
fn is_observed(tree: &Tree) -> bool {
    is_observable(text(tree, "apiVersion"), text(tree, "kind"))
}

fn is_observable(api_version: &str, kind: &str) -> bool {
    matches!((api_version, kind), ("v1", "Pod" | "Service") | ("discovery.k8s.io/v1", "EndpointSlice"))
}

/// Whether an object is Kubernetes' business: its API group is not Calico's, and its kind is not one that only Calico has.
fn is_kubernetes(tree: &Tree) -> bool {
    let (api_version, kind) = (text(tree, "apiVersion"), text(tree, "kind"));
    let is_calicos = |kind: &str| Kind::ALL.iter().any(|known| known.name() == kind);
    kubernetes::is_storable(api_version, kind)
        || !(api_version.is_empty()
            || kind.is_empty()
            || api_version.contains("projectcalico.org")
            || is_calicos(kind))
}

fn is_namespaced(tree: &Tree) -> bool {
    let kind = text(tree, "kind");
    let of_kubernetes = ["EndpointSlice", "NetworkPolicy", "ServiceAccount"];
    match is_kubernetes(tree) {
        true => of_kubernetes.contains(&kind),
        false => Kind::ALL.iter().any(|known| known.name() == kind && known.is_namespaced()),
    }
}

/// The object with `metadata.namespace` filled in, unless it has one.
fn in_namespace(tree: &Tree, namespace: &str) -> Tree {
    let mut tree = tree.clone();
    let Content::Map(fields) = &mut tree.content else { return tree };
    let Some((_, metadata)) = fields.iter_mut().find(|(name, _)| name == "metadata") else { return tree };
    let (line, named) = (metadata.line, !text(metadata, "namespace").is_empty());
    if let (Content::Map(fields), false) = (&mut metadata.content, named) {
        fields.retain(|(name, _)| name != "namespace");
        fields.push(("namespace".to_owned(), Tree { line, content: Content::Text(namespace.to_owned()) }));
    }
    tree
}

fn kubernetes_document(tree: &Tree, resource: Resource) -> KubernetesDocument {
    let metadata =
        |field: &str| tree.get("metadata").map(|metadata| text(metadata, field)).unwrap_or_default();
    let kind = text(tree, "kind");
    let namespace = match (is_namespaced(tree), metadata("namespace")) {
        (false, _) => None,
        (true, "") => Some("default".to_owned()),
        (true, namespace) => Some(namespace.to_owned()),
    };
    KubernetesDocument { kind: kind.to_owned(), namespace, name: metadata("name").to_owned(), resource }
}

/// As errors call an object: `NetworkPolicy default/web`.
fn describe(tree: &Tree) -> String {
    let metadata =
        |field: &str| tree.get("metadata").map(|metadata| text(metadata, field)).unwrap_or_default();
    let name = match (metadata("namespace"), metadata("name")) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    format!("{} {name}", text(tree, "kind")).trim().to_owned()
}

fn text<'a>(tree: &'a Tree, field: &str) -> &'a str {
    tree.get(field).and_then(Tree::scalar).unwrap_or_default()
}

fn entries(tree: &Tree) -> &[(String, Tree)] {
    match &tree.content {
        Content::Map(entries) => entries,
        _ => &[],
    }
}
