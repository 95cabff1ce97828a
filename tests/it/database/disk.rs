//! With a full disk the process is not ready, until there is space again.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use billing_sync::database::Connection;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use super::harness::{OwnServer, database_up, deliver, execute, until_ready_is};
use crate::support::process::Server;

/// A small file system, unmounted on drop. The rest of the server is elsewhere, so only the test's database fills up.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` without the privilege to mount it.
    fn mount() -> Option<Self> {
        let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m,mode=0777", "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        let block = vec![1; 1 << 16];
        while file.write_all(&block).is_ok() {}
        let byte = [1];
        while file.write_all(&byte).is_ok() {}
    }

    fn free_space(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Creates a directory that belongs to the server's user, who owns the data directory.
fn create_for_server(own: &OwnServer, dir: &Path) {
    fs::create_dir(dir).unwrap();
    let data = own.cluster.data_dir().join("postgres");
    let owner = fs::metadata(data).unwrap();
    let _ = std::os::unix::fs::chown(dir, Some(owner.uid()), Some(owner.gid()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_not_ready_until_there_is_space() {
    let mut own = OwnServer::start(&[]).await;
    let Some(small) = SmallDisk::mount() else {
        // printed, because this run does not test a real disk
        eprintln!("no tmpfs can be mounted here: PostgreSQL is made to answer 53100 instead");
        return answers_disk_full(own).await;
    };
    let path = small.0.path().join("space");
    create_for_server(&own, &path);
    execute(&mut own.conn, &format!("CREATE TABLESPACE small LOCATION '{}'", path.display())).await;
    execute(&mut own.conn, "CREATE DATABASE onsmall TABLESPACE small").await;
    let url = own.cluster.url().replace("/billing?", "/onsmall?");
    let mut conn = Connection::from(url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap());
    billing_sync::migrations::run(&mut conn).await.unwrap();
    let server = Server::start_on(&url, "receiver", &[]).await;
    assert_eq!(deliver(&server, 1, 0).await, 200);
    until_ready_is(&server, 200).await;

    small.fill();
    let reason = until_ready_is(&server, 503).await;
    assert!(reason.contains("disk is full"), "{reason}");
    assert!(!database_up(&server).await);
    // more than the free space within existing pages
    assert_eq!(deliver(&server, 2, 200_000).await, 503);

    small.free_space();
    until_ready_is(&server, 200).await;
    assert!(database_up(&server).await);
    assert_eq!(deliver(&server, 2, 200_000).await, 200);
    drop((server, conn));
    execute(&mut own.conn, "DROP DATABASE onsmall WITH (FORCE)").await;
}

/// The test without a disk: every `CREATE TABLE` fails with 53100.
async fn answers_disk_full(mut own: OwnServer) {
    let full = "CREATE FUNCTION public.full() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;
        CREATE EVENT TRIGGER full ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.full()";
    execute(&mut own.conn, full).await;
    let server = Server::start_on(&own.cluster.url(), "receiver", &[]).await;
    let reason = until_ready_is(&server, 503).await;
    assert!(reason.contains("disk is full"), "{reason}");
    assert!(!database_up(&server).await);
    execute(&mut own.conn, "DROP EVENT TRIGGER full").await;
    until_ready_is(&server, 200).await;
    assert!(database_up(&server).await);
}
