//! `calicoctl label`.

use anyhow::{Result, anyhow, bail, ensure};
use api::Metadata;
use clap::Args;

use crate::cli::Global;
use crate::session::{Access, Session};
use crate::{Console, kinds};

/// Set or remove labels of a resource.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl label nodes node-1 rack=r1
  calicoctl label nodes node-1 rack=r2 --overwrite
  calicoctl label nodes node-1 rack --remove")]
pub(crate) struct LabelArgs {
    /// Kind, such as node
    kind: String,
    /// Name
    name: String,
    /// KEY=VALUE to set, or KEY to remove (repeatable)
    #[arg(value_name = "KEY[=VALUE]", required = true)]
    labels: Vec<String>,
    /// Change labels that exist already
    #[arg(long, conflicts_with = "remove")]
    overwrite: bool,
    /// Remove the labels
    #[arg(long)]
    remove: bool,
    /// Namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

pub(crate) fn run(args: &LabelArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let kind = kinds::parse(&args.kind)?;
    let namespace = kinds::namespace(kind, args.namespace.as_deref())?;
    let changes = args.labels.iter().map(|text| Change::parse(text, args)).collect::<Result<Vec<_>>>()?;
    let session = Session::open(global, console, Access::Existing)?;
    let mut lines = Vec::new();
    session.resources().modify(kind, namespace.as_deref(), &args.name, |before| {
        lines.clear();
        let mut after = before.clone();
        for change in &changes {
            let done = change
                .make(after.metadata_mut(), args.overwrite)
                .map_err(|error| anyhow!("{}: {error}", before.key()))?;
            lines.push(format!("Successfully {done} {} {}", args.kind, args.name));
        }
        Ok::<_, anyhow::Error>(after)
    })?;
    for line in lines {
        writeln!(console.output, "{line}")?;
    }
    Ok(())
}

enum Change<'a> {
    Set { key: &'a str, value: &'a str },
    Remove { key: &'a str },
}

impl<'a> Change<'a> {
    fn parse(text: &'a str, args: &LabelArgs) -> Result<Self> {
        match (text.split_once('='), args.remove) {
            (Some((key, value)), false) => Ok(Self::Set { key, value }),
            (None, true) => Ok(Self::Remove { key: text }),
            (Some((key, _)), true) => {
                bail!("{text:?} has a value, but labels are removed by key; write {key}")
            }
            (None, false) => bail!("{text:?} has no value; write {text}=VALUE to set it, or add --remove"),
        }
    }

    /// Makes the change, and says what was done up to the name of the object.
    fn make(&self, metadata: &mut Metadata, overwrite: bool) -> Result<String> {
        match *self {
            Self::Set { key, value } => match metadata.labels.insert(key.to_owned(), value.to_owned()) {
                None => Ok(format!("set label {key} on")),
                Some(before) => {
                    ensure!(
                        overwrite || before == value,
                        "label {key} is {before:?} already; --overwrite changes it to {value:?}"
                    );
                    Ok(format!("updated label {key} on"))
                }
            },
            Self::Remove { key } => {
                ensure!(metadata.labels.remove(key).is_some(), "there is no label {key}");
                Ok(format!("removed label {key} from"))
            }
        }
    }
}
