//! Creates a new cluster, completely or not at all.
//!
//! initdb writes to a directory beside the final one, which is renamed when everything is written. So a killed start
//! leaves nothing that the next start could mistake for a cluster. Called by `Cluster::start`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::process::Command;

use super::binaries::Binaries;
use super::error::{self, EmbeddedError};
use super::place::Place;

/// The role that owns everything in the cluster.
pub(super) const SUPERUSER: &str = "postgres";
/// Prefix of the names of unfinished clusters.
const UNFINISHED: &str = "postgres.new-";

/// Creates the cluster of `place`. `durable`: whether it must survive a power failure from the start.
pub(super) async fn create(
    binaries: &Binaries,
    place: &Place,
    search_path: &str,
    durable: bool,
) -> Result<(), EmbeddedError> {
    let cluster = place.cluster();
    remove_unfinished(&place.data_dir);
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED).permissions(Permissions::from_mode(0o700));
    let unfinished = builder.tempdir_in(&place.data_dir).map_err(error::file("write to", &place.data_dir))?;
    place.account.own(unfinished.path())?;
    run(binaries, place, unfinished.path(), search_path, durable).await?;
    fs::rename(unfinished.path(), &cluster).map_err(error::file("create", &cluster))?;
    let _ = unfinished.keep(); // it has been renamed
    File::open(&place.data_dir).and_then(|dir| dir.sync_all()).map_err(error::file("sync", &place.data_dir))
}

/// Removes the unfinished clusters of killed starts. Their initdb may still be running, and clears its directory when
/// it fails. So ours has its own name, and a directory that cannot be removed now is left to the next new cluster.
fn remove_unfinished(data_dir: &Path) {
    let Ok(entries) = fs::read_dir(data_dir) else { return };
    let unfinished = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED));
    for entry in unfinished {
        let _ = fs::remove_dir_all(entry.path());
    }
}

async fn run(
    binaries: &Binaries,
    place: &Place,
    dir: &Path,
    search_path: &str,
    durable: bool,
) -> Result<(), EmbeddedError> {
    let program = binaries.program("initdb");
    let mut command = place.account.command(&program, search_path);
    command.args(["--auth=trust", "--no-locale", "--encoding=UTF8", "--no-instructions"]);
    command.arg(format!("--username={SUPERUSER}")).arg("-D").arg(dir).current_dir(dir);
    if !durable {
        command.arg("--no-sync");
    }
    let output = Command::from(command).kill_on_drop(true).output().await;
    let account = place.account.name.clone();
    let output = output.map_err(|source| EmbeddedError::Spawn { program, account, source })?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(EmbeddedError::Initdb { data_dir: place.data_dir.clone(), output: format!("{}: {errors}", output.status) })
}
