//! One term for each concept: words that only this project used, or that personify, do not come back. `CONTRIBUTING.md`
//! says which term stands for each.

use std::fs;
use std::path::Path;

use crate::{ROOT, files};

/// Refused as whole words, in any case.
const REFUSED: [&str; 46] = [
    "anybody",
    "buried",
    "bury",
    "crosswise",
    "doubt",
    "doubts",
    "heard",
    "lack",
    "lacking",
    "lacks",
    "mend",
    "mended",
    "mending",
    "mends",
    "nameless",
    "nobody",
    "parked",
    "patience",
    "relieved",
    "room",
    "rooms",
    "somebody",
    "told",
    "twin",
    "twins",
    "unnamed",
    "untold",
    "upkeep",
    "whoever",
    "whom",
    "at work",
    "brings up",
    "bring up",
    "by turns",
    "ever more rarely",
    "goes on",
    "go on",
    "in a circle",
    "more and more rarely",
    "newest word",
    "sign of life",
    "signs of life",
    "taken apart",
    "takes apart",
    "trial run",
    "went over",
];

/// Where a refused word is somebody else's name: the file, and what the line contains.
const ALLOWED: [(&str, &str); 4] = [
    // the user of Unix
    ("src/embedded/", "nobody"),
    ("tests/it/pooler/mod.rs", "\"nobody\""),
    ("docs/", "`nobody`"),
    // the rules and the glossary quote what they replace
    ("CONTRIBUTING.md", ""),
];

fn contains(text: &str, word: &str) -> bool {
    let is_of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_of_word) && !text[at + word.len()..].starts_with(is_of_word))
}

#[test]
fn replaced_words_do_not_come_back() {
    let mut texts: Vec<(String, String)> = Vec::new();
    for (folder, extension) in [
        ("src", "rs"),
        ("benches", "rs"),
        ("tests", "rs"),
        ("docs", "md"),
        ("migrations", "sql"),
        ("ops", "sql"),
        ("ops", "yml"),
        ("ops", "json"),
        ("examples", "md"),
        ("examples", "mjs"),
        ("examples", "py"),
        ("examples", "rs"),
        ("examples", "sql"),
    ] {
        texts.extend(files(folder, extension).into_iter().map(|file| (file.path, file.text)));
    }
    for name in ["README.md", "CONTRIBUTING.md", "Makefile", "Dockerfile", "Cargo.toml"] {
        texts.push((name.to_owned(), fs::read_to_string(Path::new(ROOT).join(name)).unwrap()));
    }
    let mut found = Vec::new();
    for (path, text) in texts.iter().filter(|(path, _)| path != "tests/tidy/language.rs") {
        for (number, line) in text.lines().enumerate() {
            let small = line.to_lowercase();
            let is_allowed = ALLOWED.iter().any(|(place, part)| path.starts_with(place) && line.contains(part));
            for word in REFUSED.iter().filter(|word| !is_allowed && contains(&small, word)) {
                found.push(format!("{path}:{}: {word}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "CONTRIBUTING.md has the terms to use:\n{}", found.join("\n"));
}
