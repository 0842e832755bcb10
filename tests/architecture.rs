//! The arrows of `docs/architecture.md`, read off the sources: which module uses which.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Each top-level module, and those it may use, as the table of `docs/architecture.md` says.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string("docs/architecture.md").unwrap();
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let module = cells.first()?.trim_end_matches('`');
        let uses = cells.get(1)?.split([' ', ',']).filter(|word| !word.is_empty());
        Some((module.to_owned(), uses.map(|word| word.trim_matches('`').to_owned()).collect()))
    });
    rows.collect()
}

/// The top-level modules that the files of `module` name after `crate::`.
fn used(module: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![Path::new("src").join(module), Path::new("src").join(format!("{module}.rs"))];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            for (at, _) in source.match_indices("crate::") {
                let rest = &source[at + "crate::".len()..];
                if rest.starts_with('{') {
                    panic!("{}: write one `use crate::MODULE` per module", path.display());
                }
                let name: String =
                    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                found.insert(name);
            }
        }
    }
    found.remove(module);
    found
}

fn modules() -> BTreeSet<String> {
    let names = fs::read_dir("src").unwrap().map(|entry| entry.unwrap().path());
    names
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "lib" && name != "main")
        .collect()
}

#[test]
fn every_module_stands_in_the_table() {
    assert_eq!(allowed().into_keys().collect::<BTreeSet<_>>(), modules());
}

#[test]
fn modules_use_only_what_the_table_allows() {
    for (module, allowed) in allowed() {
        let forbidden: Vec<String> = used(&module).difference(&allowed).cloned().collect();
        assert!(
            forbidden.is_empty(),
            "`{module}` uses {forbidden:?}, which docs/architecture.md does not allow"
        );
    }
}

#[test]
fn the_table_allows_nothing_that_is_not_used() {
    for (module, allowed) in allowed() {
        let unused: Vec<String> = allowed.difference(&used(&module)).cloned().collect();
        assert!(unused.is_empty(), "docs/architecture.md lets `{module}` use {unused:?}, which it does not");
    }
}

#[test]
fn no_two_modules_use_each_other() {
    let allowed = allowed();
    for (module, uses) in &allowed {
        for other in uses {
            assert!(!allowed[other].contains(module), "`{module}` and `{other}` use each other");
        }
    }
}

/// The fuzz targets are a workspace of their own, which no other test builds.
#[test]
fn every_fuzz_target_is_registered_and_described() {
    let manifest: toml::Table = fs::read_to_string("fuzz/Cargo.toml").unwrap().parse().unwrap();
    let registered = manifest["bin"].as_array().unwrap().iter().map(|bin| {
        let name = bin["name"].as_str().unwrap();
        assert_eq!(bin["path"].as_str().unwrap(), format!("fuzz_targets/{name}.rs"));
        name.to_owned()
    });
    let registered: BTreeSet<String> = registered.collect();
    let files = fs::read_dir("fuzz/fuzz_targets").unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<String> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let readme = fs::read_to_string("fuzz/README.md").unwrap();
    let described = |name: &&String| readme.contains(&format!("\n| `{name}` |"));

    assert_eq!(registered, files);
    assert_eq!(files.iter().find(|name| !described(name)), None);
}
