//! What users wrote: files, folders and standard input.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use api::documents::{self, Document};
use clap::Args;

use crate::Console;

/// Which files.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// YAML or JSON file of resources, a folder of such files, or - for standard input (repeatable)
    #[arg(short, long = "filename", value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Look into the folders of a folder too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Skip files that hold no resource
    #[arg(long)]
    skip_empty: bool,
    /// Namespace of what names none itself [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

impl FileArgs {
    /// These files, as they are.
    pub(crate) fn of(filename: Vec<PathBuf>) -> Self {
        Self { filename, recursive: false, skip_empty: false, namespace: None }
    }

    /// Reads and checks everything, or nothing.
    pub(crate) fn load(&self, console: &mut Console<'_>) -> Result<Vec<Document>> {
        ensure!(!self.filename.is_empty(), "no file: name one with -f FILE, or -f - for standard input");
        let mut found = Vec::new();
        for path in &self.filename {
            for source in self.sources(path)? {
                found.extend(self.load_source(&source, console)?);
            }
        }
        Ok(found)
    }

    /// What the files say, each with its name for errors.
    pub(crate) fn texts(&self, console: &mut Console<'_>) -> Result<Vec<(String, String)>> {
        let mut texts = Vec::new();
        for path in &self.filename {
            for source in self.sources(path)? {
                texts.push((source.to_string(), source.read(console)?));
            }
        }
        Ok(texts)
    }

    fn sources(&self, path: &Path) -> Result<Vec<Source>> {
        if path == Path::new("-") {
            return Ok(vec![Source::Input]);
        }
        if !path.is_dir() {
            return Ok(vec![Source::File(path.to_owned())]);
        }
        let mut files = Vec::new();
        find_files(path, self.recursive, 0, &mut files)?;
        ensure!(
            !files.is_empty() || self.skip_empty,
            "{}: there is no .yaml, .yml or .json file in this folder{}",
            path.display(),
            if self.recursive { "" } else { "; -R looks into its folders too" }
        );
        Ok(files.into_iter().map(Source::File).collect())
    }

    fn load_source(&self, source: &Source, console: &mut Console<'_>) -> Result<Vec<Document>> {
        let text = source.read(console)?;
        let loaded = match &self.namespace {
            Some(namespace) => documents::load_into(&text, namespace),
            None => documents::load(&text),
        };
        let found = loaded.map_err(|errors| {
            let lines: Vec<_> = errors.0.iter().map(|error| format!("{source}: {error}")).collect();
            anyhow::anyhow!(lines.join("\n"))
        })?;
        if found.is_empty() && !self.skip_empty {
            bail!("{source} holds no resource; --skip-empty skips such files");
        }
        tracing::debug!(%source, documents = found.len(), "read");
        for document in &found {
            self.check_namespace(document).with_context(|| source.to_string())?;
        }
        Ok(found)
    }

    fn check_namespace(&self, document: &Document) -> Result<()> {
        let of_document = match document {
            Document::Calico(resource) => resource.metadata().namespace.as_deref(),
            Document::Kubernetes(object) => object.namespace.as_deref(),
        };
        match (&self.namespace, of_document) {
            (Some(wanted), Some(namespace)) if wanted != namespace => bail!(
                "{}: metadata.namespace is {namespace:?}, but --namespace says {wanted:?}; make them the same",
                document.key()
            ),
            _ => Ok(()),
        }
    }
}

enum Source {
    Input,
    File(PathBuf),
}

impl Source {
    fn read(&self, console: &mut Console<'_>) -> Result<String> {
        let mut bytes = Vec::new();
        match self {
            Self::Input => console.input.read_to_end(&mut bytes).map(drop),
            Self::File(path) => {
                std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map(drop)
            }
        }
        .with_context(|| format!("{self} cannot be read"))?;
        String::from_utf8(bytes).with_context(|| format!("{self} is not text in UTF-8"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Deeper folders than anyone makes; a guard against links that go round.
const MAX_DEPTH: usize = 32;

fn find_files(folder: &Path, recursive: bool, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = || format!("{} cannot be read", folder.display());
    ensure!(depth < MAX_DEPTH, "{}: folders are nested more than {MAX_DEPTH} deep", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        paths.push(entry.with_context(unreadable)?.path());
    }
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match path.is_dir() {
            true if recursive => find_files(&path, recursive, depth + 1, found)?,
            false if matches!(extension, Some("yaml" | "yml" | "json")) => found.push(path),
            _ => {}
        }
    }
    Ok(())
}
