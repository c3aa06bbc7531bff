//! `calicoctl completion`.

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;

use crate::Console;

/// Print a completion script.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(calicoctl completion bash)
  calicoctl completion zsh > ~/.zfunc/_calicoctl")]
pub(crate) struct CompletionArgs {
    /// For which shell
    shell: Shell,
}

pub(crate) fn run(
    args: &CompletionArgs,
    command: &mut clap::Command,
    console: &mut Console<'_>,
) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "calicoctl", &mut script);
    Ok(console.output.write_all(&script)?)
}
