//! Parses a connection string into parameters: a URL, or libpq's `keyword=value` pairs. PURE.
//!
//! It is parsed as in libpq, with one difference: text that may be a password with reserved characters that are not
//! encoded is refused. No error repeats a part of the text. Only names of known parameters are shown, because
//! `password=a&b` creates a parameter called `b`.

/// One parameter: its name as written, and its value. No `Debug`, because either may be part of a password.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: String,
}

/// Why a text is not a connection string, and the fix. Neither contains a part of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) wrong: &'static str,
    pub(super) fix: &'static str,
}

const UNENCODED: Malformed = Malformed {
    wrong: "has reserved characters in its user name or password that are not percent-encoded (its value is not shown)",
    fix: "write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25",
};
const PERCENT: Malformed = Malformed {
    wrong: "has a % without two hexadecimal digits, or an encoding that is not UTF-8 (its value is not shown)",
    fix: "write a % in the password as %25",
};
const NO_URL: Malformed = Malformed {
    wrong: "is neither a URL nor a list of keyword=value pairs (its value is not shown)",
    fix: "set it to a URL such as postgres://user:password@host:5432/name, with reserved characters of the password \
          percent-encoded",
};
const QUOTED: Malformed = Malformed {
    wrong: "begins with a quotation mark (its value is not shown)",
    fix: "remove the quotation marks: docker's --env-file and Kubernetes secrets keep them as part of the value",
};
const OTHER_SCHEME: Malformed = Malformed {
    wrong: "is a URL of another kind of database or driver (its value is not shown)",
    fix: "start it with postgres:// or postgresql://",
};
const BRACKET: Malformed = Malformed {
    wrong: "has an IPv6 address without its closing bracket (its value is not shown)",
    fix: "write it as [::1]:5432",
};
const NO_VALUE: Malformed = Malformed {
    wrong: "has a parameter without = after the ? (its value is not shown)",
    fix: "write name=value, separated by &; write & as %26 and = as %3D in values",
};
const NO_PAIR: Malformed = Malformed {
    wrong: "has a word without = in its keyword=value pairs (its value is not shown)",
    fix: "write keyword=value, separated by spaces; put a value with spaces in single quotation marks",
};
const OPEN_QUOTE: Malformed = Malformed {
    wrong: "has a value with an unclosed single quotation mark, or text after the closing one (its value is not shown)",
    fix: "close the quotation mark; write ' as \\' and \\ as \\\\ in values",
};

/// The parameters of a connection string, in its order. Hosts and ports of a URL become libpq's lists: `host=a,b` and
/// `port=1,2`.
pub(super) fn parameters(text: &str) -> Result<Vec<Parameter>, Malformed> {
    let text = text.trim();
    if let Some(rest) = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
        return url(rest);
    }
    if text.starts_with(['"', '\'', '`']) {
        return Err(QUOTED);
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| scheme.chars().all(|it| it.is_ascii_alphanumeric() || "+.:-".contains(it))) {
        return Err(OTHER_SCHEME);
    }
    if text.contains('=') { pairs(text) } else { Err(NO_URL) }
}

fn url(rest: &str) -> Result<Vec<Parameter>, Malformed> {
    let mut found = Vec::new();
    let mut push = |name: &str, value: String| found.push(Parameter { name: name.to_owned(), value });
    // at most one @, before any / and ?: other text may be the rest of a password
    let rest = match rest.split_once('@') {
        Some((user, rest)) if user.contains(['/', '?']) || rest.contains('@') => return Err(UNENCODED),
        Some((user, rest)) => {
            let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
            if !user.is_empty() {
                push("user", decoded(user)?);
            }
            if let Some(password) = password.filter(|password| !password.is_empty()) {
                push("password", decoded(password)?);
            }
            rest
        }
        None => rest,
    };
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (hosts, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (hosts, ports) = authority(hosts)?;
    if !hosts.is_empty() {
        push("host", hosts);
    }
    if !ports.is_empty() {
        push("port", ports);
    }
    if !name.is_empty() {
        push("dbname", decoded(name)?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(NO_VALUE)?;
        push(&decoded(name)?, decoded(value)?);
    }
    Ok(found)
}

/// Splits `a:1,[::1]:2` into `a,::1` and `1,2`; without any port, the second is empty.
fn authority(text: &str) -> Result<(String, String), Malformed> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for place in text.split(',') {
        let (host, port) = if let Some(address) = place.strip_prefix('[') {
            let (address, port) = address.split_once(']').ok_or(BRACKET)?;
            match port.strip_prefix(':') {
                Some(port) => (address, port),
                None if port.is_empty() => (address, ""),
                None => return Err(BRACKET),
            }
        } else {
            place.split_once(':').unwrap_or((place, ""))
        };
        hosts.push(decoded(host)?);
        ports.push(decoded(port)?);
    }
    let ports = if ports.iter().all(String::is_empty) { String::new() } else { ports.join(",") };
    Ok((hosts.join(","), ports))
}

fn decoded(text: &str) -> Result<String, Malformed> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return Err(PERCENT) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| PERCENT)?);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(PERCENT)
}

/// Parses libpq's pairs: spaces around `=` are allowed, values with spaces are in single quotation marks, `\` escapes.
fn pairs(text: &str) -> Result<Vec<Parameter>, Malformed> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=').ok_or(NO_PAIR)?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(NO_PAIR);
        }
        let (value, behind) = pair_value(behind.trim_start())?;
        found.push(Parameter { name: name.to_owned(), value });
        rest = behind.trim_start();
    }
    Ok(found)
}

/// The value at the start of the text, and the text after it.
fn pair_value(text: &str) -> Result<(String, &str), Malformed> {
    let quoted = text.strip_prefix('\'');
    let text = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted.is_some() => {
                let behind = &text[at + 1..];
                let ends = behind.is_empty() || behind.starts_with(char::is_whitespace);
                return if ends { Ok((value, behind)) } else { Err(OPEN_QUOTE) };
            }
            letter if quoted.is_none() && letter.is_whitespace() => return Ok((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    if quoted.is_some() { Err(OPEN_QUOTE) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let parameters = parameters(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        parameters.into_iter().map(|parameter| (parameter.name, parameter.value)).collect()
    }

    fn is(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(read(text), expected, "{text}");
    }

    #[test]
    fn urls_are_parsed_as_by_libpq() {
        is("postgres://", &[]);
        is("postgresql://localhost", &[("host", "localhost")]);
        is("postgres://u@/db?host=/s", &[("user", "u"), ("dbname", "db"), ("host", "/s")]);
        is("postgresql://%2Fvar%2Frun/db", &[("host", "/var/run"), ("dbname", "db")]);
        is(
            "postgres://u:p:%40%2F#w@h:1/d",
            &[("user", "u"), ("password", "p:@/#w"), ("host", "h"), ("port", "1"), ("dbname", "d")],
        );
        is("postgres://a,b:2,[::1]:3/d", &[("host", "a,b,::1"), ("port", ",2,3"), ("dbname", "d")]);
        is(
            "postgres://[fe80::1%25eth0]/d?a=b%26c&d=e=f",
            &[("host", "fe80::1%eth0"), ("dbname", "d"), ("a", "b&c"), ("d", "e=f")],
        );
    }

    #[test]
    fn pairs_are_parsed_as_by_libpq() {
        is(
            r"host=a port = 1 password='it\'s a \\ b' dbname=",
            &[("host", "a"), ("port", "1"), ("password", r"it's a \ b"), ("dbname", "")],
        );
        is(r"user=a\ b", &[("user", "a b")]);
    }

    #[test]
    fn a_possibly_unencoded_password_is_refused() {
        for url in ["u:p@ss/w:rd@host/db", "u:p/w@host/db", "u:p?w@host", "u:p@w@host", "u:p@h/d?application_name=a@b"]
        {
            assert_eq!(parameters(&format!("postgres://{url}")).err(), Some(UNENCODED), "{url}");
        }
        for url in ["u:p%w@h", "u:50%@h", "u:%ff@h", "u:%00@h"] {
            assert_eq!(parameters(&format!("postgres://{url}")).err(), Some(PERCENT), "{url}");
        }
    }

    #[test]
    fn an_invalid_connection_string_is_refused() {
        for (text, expected) in [
            ("'postgres://u@h'", QUOTED),
            ("mysql://u:p@h/d", OTHER_SCHEME),
            ("jdbc:postgresql://h/d", OTHER_SCHEME),
            ("billing", NO_URL),
            ("postgres://[::1", BRACKET),
            ("postgres://h?flag", NO_VALUE),
            ("host=a password=b c", NO_PAIR),
            ("host a=b", NO_PAIR),
            ("password='a", OPEN_QUOTE),
            ("password='a'b", OPEN_QUOTE),
        ] {
            assert_eq!(parameters(text).err(), Some(expected), "{text}");
        }
    }
}
