//! No two files of `src/` import each other, not even by way of others: a file can be read once those it uses are known.

use std::collections::{BTreeMap, BTreeSet};

use crate::{File, files};

/// The path of a module, from the root of the crate.
type Module = Vec<String>;

fn module_of(file: &File) -> Module {
    let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Module = path.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The paths that a `use` declaration names, its braces resolved.
fn paths_of_use(tree: &str, prefix: &[String], found: &mut Vec<Module>) {
    let tree = tree.trim();
    if let Some(inner) = tree.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let (mut depth, mut start) = (0, 0);
        for (at, letter) in inner.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    paths_of_use(&inner[start..at], prefix, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        paths_of_use(&inner[start..], prefix, found);
    } else if let Some((head, rest)) = tree.split_once("::") {
        paths_of_use(rest, &[prefix, &[head.trim().to_owned()]].concat(), found);
    } else if let Some(name) = tree.split_whitespace().next() {
        found.push([prefix, &[name.to_owned()]].concat());
    }
}

/// The paths that code names with `::`, without those of `use` declarations.
fn paths_in_code(code: &str) -> Vec<Module> {
    let is_of_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    code.split(|letter| !is_of_path(letter))
        .filter(|path| path.contains("::") && !path.starts_with(':'))
        .map(|path| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect())
        .collect()
}

/// The module whose file a path leads to.
fn resolve(from: &Module, path: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let mut full = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "self" => [from, &path[1..]].concat(),
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            [&from[..from.len().checked_sub(up)?], &path[up..]].concat()
        }
        child if modules.contains(&[from.as_slice(), &[child.to_owned()]].concat()) => [from, path].concat(),
        _ => return None,
    };
    full.retain(|part| part != "self");
    while !full.is_empty() && !modules.contains(&full) {
        full.pop();
    }
    Some(full).filter(|full| !full.is_empty() && full != from)
}

fn uses(file: &File, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let from = module_of(file);
    let (mut paths, mut rest) = (Vec::new(), String::new());
    for statement in file.code().split_inclusive(';') {
        let Some(at) = statement.find("use ").filter(|at| !statement[..*at].ends_with(|c: char| c.is_alphanumeric()))
        else {
            rest.push_str(statement);
            continue;
        };
        rest.push_str(&statement[..at]);
        paths_of_use(statement[at + 4..].trim_end_matches(';'), &[], &mut paths);
    }
    paths.extend(paths_in_code(&rest));
    paths.iter().filter_map(|path| resolve(&from, path, modules)).collect()
}

/// The modules at the crate's root that a file uses.
pub(crate) fn modules_used_by(file: &File, all: &[File]) -> BTreeSet<String> {
    let modules = all.iter().map(module_of).collect();
    uses(file, &modules).into_iter().filter_map(|module| module.into_iter().next()).collect()
}

/// Removes, again and again, the modules that use none of the others: what is left are cycles and what leads to them.
fn cyclic(mut graph: BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    loop {
        let free: Vec<Module> = graph
            .iter()
            .filter(|(_, uses)| !uses.iter().any(|used| graph.contains_key(used)))
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        for module in free {
            graph.remove(&module);
        }
    }
    // and those that nothing left uses only lead to a cycle
    loop {
        let used: BTreeSet<Module> = graph.values().flatten().cloned().collect();
        let before = graph.len();
        graph.retain(|module, _| used.contains(module));
        if graph.len() == before {
            break;
        }
    }
    let named = |(module, uses): (&Module, &BTreeSet<Module>)| {
        let uses: Vec<String> =
            uses.iter().filter(|used| graph.contains_key(*used)).map(|used| used.join("::")).collect();
        format!("{} uses {}", module.join("::"), uses.join(", "))
    };
    graph.iter().map(named).collect()
}

#[test]
fn files_import_in_one_direction() {
    let all: Vec<File> = files("src", "rs").into_iter().filter(|file| !file.is_test()).collect();
    let modules: BTreeSet<Module> = all.iter().map(module_of).collect();
    let graph: BTreeMap<Module, BTreeSet<Module>> =
        all.iter().map(|file| (module_of(file), uses(file, &modules))).collect();
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 500, "only {edges} imports were found: this check is broken");
    let cyclic = cyclic(graph);
    assert!(cyclic.is_empty(), "files import each other:\n{}", cyclic.join("\n"));
}

#[test]
fn a_cycle_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let graph = BTreeMap::from([
        (module("a"), BTreeSet::from([module("b")])),
        (module("b"), BTreeSet::from([module("c"), module("d")])),
        (module("c"), BTreeSet::from([module("b")])),
        (module("d"), BTreeSet::new()),
    ]);
    assert_eq!(cyclic(graph), ["b uses c", "c uses b"]);
}
