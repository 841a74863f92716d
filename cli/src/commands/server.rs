//! `barge server`: a master and volumes in one process.

use crate::args::ServerArgs;

/// Runs them until the process is told to end.
pub(crate) async fn run(args: ServerArgs) -> anyhow::Result<()> {
    anyhow::bail!("cannot serve {}: not in this build", args.data.display())
}
