//! libpq's password file: lines of `host:port:database:user:password`, of which the first match counts.
//!
//! sqlx also reads the file, but logs invalid lines with the password.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::base::file;

/// The target of a password, in the order of a line's fields.
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The lines of the file.
///
/// # Errors
/// Why the file cannot be used, as text that follows its name.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err("can be read by other users (set its mode to 0600)".to_owned());
    }
    file::read_text(path, file::MAX_VALUE_BYTES).map_err(|error| format!("cannot be read: {error}"))
}

/// The password of the first line that matches.
pub(super) fn find(lines: &str, of: &Target<'_>) -> Option<String> {
    let port = of.port.to_string();
    // a socket matches localhost, as in libpq
    let host = if of.host.starts_with('/') { "localhost" } else { of.host };
    let wanted = [host, &port, of.database, of.user];
    lines.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let (password, names) = fields.split_last().filter(|(_, names)| names.len() == wanted.len())?;
        let matches = names.iter().zip(wanted).all(|(name, wanted)| name == "*" || name == wanted);
        (matches && !password.is_empty()).then(|| password.clone())
    })
}

/// The fields of a line, separated by `:`; `\` escapes `:` and `\`. The fifth field takes the rest.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let last = fields.len() - 1;
        match letter {
            ':' if last < 4 => fields.push(String::new()),
            '\\' => fields[last].extend(letters.next()),
            letter => fields[last].push(letter),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str =
        "# host:1:d:u:comment\nhost:1:d:u\nhost:1:d:u:first\n*:*:*:o\\:ther:a\\\\b:c\nlocalhost:5432:d:u:s\n";

    #[test]
    fn the_first_line_that_matches_counts() {
        for (host, port, user, expected) in [
            ("host", 1, "u", Some("first")),
            ("host", 2, "u", None),
            ("x", 9, "o:ther", Some("a\\b:c")),
            ("/run", 5432, "u", Some("s")),
        ] {
            assert_eq!(find(LINES, &Target { host, port, database: "d", user }).as_deref(), expected, "{host} {user}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(read(file.path()).as_deref(), Ok(""));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(file.path()).unwrap_err().contains("0600"));
        assert!(read(Path::new("/nowhere")).unwrap_err().contains("No such file"));
    }
}
