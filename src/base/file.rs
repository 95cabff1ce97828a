//! Reads the files that settings name, with limits on size and time: a path may name an endless device, or a pipe
//! without a writer. Called by [`crate::config`] and [`crate::tls`].

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Maximum file size for a setting's value: more than any secret or connection string needs.
pub const MAX_VALUE_BYTES: u64 = 64 * 1024;

/// Maximum file size for certificates: more than the certificates of all public authorities need.
pub const MAX_CERTIFICATE_BYTES: u64 = 4 * 1024 * 1024;

/// Timeout for reading the whole file. A pipe (`<(pass show stripe)`) may need some of it.
const LIMIT: Duration = Duration::from_secs(5);

/// Reads a file, pipe or device that ends within `most` bytes and five seconds.
///
/// # Errors
/// The reason why the file cannot be used, phrased to follow the file's name.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    read_within(path, most, LIMIT)
}

/// Reads a file as UTF-8 text, with the limits of [`read`].
///
/// # Errors
/// As [`read`], and if the content is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

fn read_within(path: &Path, most: u64, limit: Duration) -> Result<Vec<u8>> {
    let (sender, read) = mpsc::sync_channel(1);
    let path = path.to_owned();
    // opening a pipe waits for its writer and cannot be cancelled: the thread may live until the process ends
    thread::spawn(move || sender.send(read_bounded(&path, most)));
    let late = || Error::new(ErrorKind::TimedOut, format!("it did not end within {} s", limit.as_secs()));
    read.recv_timeout(limit).unwrap_or_else(|_| Err(late()))
}

fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let bytes = File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > most {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn pipe(dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        path
    }

    #[test]
    fn files_over_the_limit_and_endless_devices_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "12345678").unwrap();
        assert_eq!(read(file.path(), 8).unwrap(), b"12345678");
        for (path, most) in [(file.path(), 7), (Path::new("/dev/zero"), MAX_VALUE_BYTES)] {
            assert_eq!(read(path, most).unwrap_err().to_string(), format!("it has more than {most} bytes"));
        }
    }

    #[test]
    fn a_pipe_without_a_writer_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(&dir);
        let writer = thread::spawn({
            let path = path.clone();
            move || fs::write(path, "whsec_x\n")
        });
        assert_eq!(read_text(&path, MAX_VALUE_BYTES).unwrap(), "whsec_x\n");
        writer.join().unwrap().unwrap();
        let error = read_within(&path, MAX_VALUE_BYTES, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn invalid_utf_8_is_reported() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [0xFF]).unwrap();
        assert_eq!(read_text(file.path(), MAX_VALUE_BYTES).unwrap_err().to_string(), "it is not UTF-8 text");
    }
}
