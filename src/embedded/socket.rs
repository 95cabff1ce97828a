//! The directory of the server's unix socket: private, and short enough for the kernel.
//!
//! `run/` in the data directory, or a separate directory in the temp dir if that path is too long or needs quoting in
//! PostgreSQL's settings and in connection URLs. It is the database's only access control (the server trusts every
//! client that reaches the socket), hence 0700. Called by `Cluster::start`; removed when dropped.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::{self, EmbeddedError};
use super::place::Place;

/// The port is only part of the socket's name: nothing listens on TCP.
pub(super) const PORT: u16 = 5432;

/// `sun_path` without its final NUL: 108 bytes on Linux, 104 on macOS and the BSDs, less one.
const LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A socket directory, removed with its content when dropped.
#[derive(Debug)]
pub(super) struct SocketDir {
    pub(super) path: PathBuf,
    /// Whether it is in the temp dir, under a name that is never reused.
    pub(super) temporary: bool,
}

impl SocketDir {
    /// Creates the directory for a server at `place`. Removes the leftovers of a killed predecessor first.
    pub(super) fn create(place: &Place) -> Result<Self, EmbeddedError> {
        let own = place.run();
        let dir = if fits(&own) {
            if own.exists() {
                fs::remove_dir_all(&own).map_err(error::file("clear", &own))?;
            }
            DirBuilder::new().mode(0o700).create(&own).map_err(error::file("create", &own))?;
            Self { path: own, temporary: false }
        } else {
            Self::create_in_temp(place)?
        };
        place.account.own(&dir.path)?;
        Ok(dir)
    }

    fn create_in_temp(place: &Place) -> Result<Self, EmbeddedError> {
        let places = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
        let prefix = "billing-sync-";
        let good = |dir: &&PathBuf| fits(&dir.join(prefix).join("......")) && place.account.enter(dir).is_ok();
        let parent = places.iter().find(good).unwrap_or(&places[1]);
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix).permissions(Permissions::from_mode(0o700));
        let dir = builder.tempdir_in(parent).map_err(error::file("create", parent))?;
        Ok(Self { path: dir.keep(), temporary: true })
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.path) {
            tracing::debug!(error = %e, "could not remove the socket directory {}", self.path.display());
        }
    }
}

/// Whether a socket in `dir` fits the kernel's limit, and `dir` needs no quoting anywhere.
fn fits(dir: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(byte);
    let bytes = dir.as_os_str().as_encoded_bytes();
    bytes.starts_with(b"/") && bytes.iter().all(plain) && bytes.len() + format!("/.s.PGSQL.{PORT}").len() <= LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_socket_path_counts_to_the_byte() {
        let longest = format!("/{}", "d".repeat(LIMIT - "/.s.PGSQL.5432".len() - 1));
        assert!(fits(Path::new(&longest)));
        assert!(!fits(Path::new(&format!("{longest}d"))));
    }

    #[test]
    fn paths_that_would_need_quoting_do_not_fit() {
        for odd in ["/a b", "/a,b", "/a'b", "/a\"b", "/a%20", "/a?b", "/é", "relative"] {
            assert!(!fits(Path::new(odd)), "{odd}");
        }
        assert!(fits(Path::new("/home/dev/.billing-sync/run")));
    }
}
