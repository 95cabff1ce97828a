//! Making a new cluster, wholly or not at all.
//!
//! initdb works in a directory beside the real one, which gets its name when all is written: a start that is killed
//! half-way leaves nothing that the next one could take for a cluster. Called by `Cluster::start`.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use tokio::process::Command;

use super::SUPERUSER;
use super::binaries::Binaries;
use super::error::{self, EmbeddedError};
use super::place::Place;

/// Creates the cluster of `place`. `durable` says whether it must survive a power cut from the first moment.
pub(super) async fn create(
    binaries: &Binaries,
    place: &Place,
    search_path: &str,
    durable: bool,
) -> Result<(), EmbeddedError> {
    let cluster = place.cluster();
    let unfinished = place.data_dir.join("postgres.new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(error::file("clear", &unfinished))?;
    }
    DirBuilder::new().mode(0o700).create(&unfinished).map_err(error::file("create", &unfinished))?;
    place.account.own(&unfinished)?;
    run(binaries, place, &unfinished, search_path, durable).await?;
    fs::rename(&unfinished, &cluster).map_err(error::file("create", &cluster))?;
    File::open(&place.data_dir).and_then(|dir| dir.sync_all()).map_err(error::file("sync", &place.data_dir))
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
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(EmbeddedError::Initdb { data_dir: place.data_dir.clone(), output: format!("{}: {said}", output.status) })
}
