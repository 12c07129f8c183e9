//! What has to hold of the source tree: who depends on whom, what every module says of itself, what libraries
//! leave alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may depend on whom, of our own crates (ARCHITECTURE.md, "Crates").
const MAY_DEPEND: [(&str, &[&str]); 8] = [
    ("dacapo-array", &[]),
    ("dacapo-kernels", &[]),
    ("dacapo-nn", &[]),
    ("dacapo-tasks", &["dacapo-array", "dacapo-kernels"]),
    ("dacapo-store", &["dacapo-array"]),
    ("dacapo-blockwise", &["dacapo-array"]),
    (
        "dacapo",
        &[
            "dacapo-array",
            "dacapo-blockwise",
            "dacapo-kernels",
            "dacapo-nn",
            "dacapo-store",
            "dacapo-tasks",
        ],
    ),
    ("dacapo-cli", &["dacapo"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below `dir` that end in `.extension`.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "target" {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn crates() -> Vec<String> {
    let names = fs::read_dir(root().join("crates")).unwrap();
    let mut names: Vec<String> = names
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_DEPEND.into();
    for name in crates() {
        let manifest = fs::read_to_string(root().join("crates").join(&name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let may = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} is not in the list"));
        let none = toml::Table::new();
        let dependencies = manifest
            .get("dependencies")
            .and_then(toml::Value::as_table)
            .unwrap_or(&none);
        for dependency in dependencies.keys().filter(|d| allowed.contains_key(d.as_str())) {
            assert!(
                may.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

/// The source of a file without its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

#[test]
fn every_module_says_what_lives_there() {
    for file in files(&root().join("crates"), "rs")
        .iter()
        .filter(|f| f.components().any(|c| c.as_os_str() == "src"))
    {
        let text = fs::read_to_string(file).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} does not begin with a //! sentence",
            file.display()
        );
    }
}

#[test]
fn libraries_neither_print_nor_exit_nor_read_the_environment() {
    let forbidden = [
        "println!(",
        "print!(",
        "eprintln!(",
        "eprint!(",
        "dbg!(",
        "process::exit",
        "env::var",
        "env::args",
    ];
    for name in crates().iter().filter(|name| *name != "dacapo-cli") {
        for file in files(&root().join("crates").join(name).join("src"), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            for (i, line) in without_tests(&text).lines().enumerate() {
                let code = line.split("//").next().unwrap();
                if let Some(word) = forbidden.iter().find(|word| code.contains(**word)) {
                    panic!("{}:{}: {word}", file.display(), i + 1);
                }
            }
        }
    }
}

#[test]
fn nothing_is_left_to_do() {
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
    ];
    for folder in ["crates", "bench", "xtask"] {
        for file in files(&root().join(folder), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            for (i, line) in text.lines().enumerate() {
                if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                    panic!("{}:{}: {word}", file.display(), i + 1);
                }
            }
        }
    }
}

#[test]
fn what_a_project_has() {
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
    ] {
        assert!(root().join(file).is_file(), "{file} is missing");
    }
}
