//! The pages of the documentation, and the code in them.

use std::fs;
use std::path::Path;

/// README, CONTRIBUTING, the page of the examples and the pages of `docs/`: their paths from the root, and their texts.
pub(crate) fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    let docs = docs.filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "md"));
    let paths = ["README.md", "CONTRIBUTING.md", "examples/README.md"].map(str::to_owned).into_iter().chain(docs);
    paths.map(|path| (path.clone(), fs::read_to_string(root.join(&path)).unwrap())).collect()
}

/// All code of a page, each with the language of its block, which is empty for code within a line. A block begins and ends
/// with three backticks, code within a line with one.
pub(crate) fn code(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, part) in page.split("```").enumerate() {
        if index % 2 == 1 {
            let (language, text) = part.split_once('\n').unwrap();
            found.push((language.trim().to_owned(), text.to_owned()));
        } else {
            let spans = part.split('`').skip(1).step_by(2);
            found.extend(spans.map(|span| (String::new(), span.replace('\n', " "))));
        }
    }
    found
}
