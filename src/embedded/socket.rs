//! The directory of the server's unix socket: private, and short enough for the kernel.
//!
//! `run/` in the data directory; a directory of its own in the temp dir where that path would be too long, or odd enough
//! to need quoting in PostgreSQL's settings and in connection URLs. It is all that guards the database (the server
//! trusts whoever reaches the socket), hence 0700. Called by `Cluster::start`; gone when dropped.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::{self, EmbeddedError};
use super::place::Place;

/// The port is only part of the socket's name: nothing listens on TCP.
pub(super) const PORT: u16 = 5432;

/// `sun_path` less its final NUL: 108 bytes on Linux, 104 on macOS and the BSDs.
const LIMIT: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A socket directory, removed with what is in it when dropped.
#[derive(Debug)]
pub(super) struct SocketDir {
    pub(super) path: PathBuf,
    /// Lies in the temp dir under a name never used again.
    pub(super) temporary: bool,
}

impl SocketDir {
    /// Makes the directory for a server at `place`; what a killed predecessor left there is removed first.
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
            tracing::debug!(error = %e, "the socket directory {} was not removed", self.path.display());
        }
    }
}

/// Whether a socket in `dir` can be reached, and `dir` needs no quoting anywhere.
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
