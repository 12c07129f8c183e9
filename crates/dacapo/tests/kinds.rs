//! The table of all kinds: it names every one of the schema, and the tests and configs that it names are there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use dacapo::config::config_schema;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn table() -> String {
    fs::read_to_string(root().join("docs/kinds.md")).unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The keys and choices of one definition of the schema, without those of others that it refers to.
fn names(definition: &Value, found: &mut BTreeSet<String>) {
    match definition {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            found.extend(map.get("const").and_then(Value::as_str).map(str::to_owned));
            let choices = map.get("enum").and_then(Value::as_array).into_iter().flatten();
            found.extend(choices.filter_map(Value::as_str).map(str::to_owned));
            let inner = map.iter().filter(|(key, _)| *key != "$defs" && *key != "default");
            inner.for_each(|(_, value)| names(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

#[test]
fn every_kind_of_the_schema_is_in_the_table() {
    let (schema, table) = (config_schema(), table());
    let sections: Vec<BTreeSet<&str>> = table.split("\n## ").skip(1).map(quoted).collect();
    let mut definitions = vec![("RunConfig", &schema)];
    definitions.extend(
        schema["$defs"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, d)| (name.as_str(), d)),
    );
    assert!(definitions.len() > 30);
    for (name, definition) in definitions {
        let mut wanted = BTreeSet::new();
        names(definition, &mut wanted);
        // One section has all of a definition.
        let missing = |section: &BTreeSet<&str>| -> Vec<String> {
            let missing = wanted.iter().filter(|name| !section.contains(name.as_str()));
            missing.cloned().collect()
        };
        let least = sections.iter().map(missing).min_by_key(Vec::len).unwrap();
        assert!(least.is_empty(), "docs/kinds.md lacks {least:?} of {name}");
    }
}

#[test]
fn the_tests_and_configs_of_the_table_are_there() {
    let table = table();
    let mut tests = 0;
    for name in quoted(&table) {
        let Some((file, function)) = name.split_once("::") else {
            continue;
        };
        let text = fs::read_to_string(root().join("crates").join(file)).unwrap();
        assert!(text.contains(&format!("fn {function}(")), "{name}");
        tests += 1;
    }
    assert!(tests > 60, "{tests}");
    let links = table
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    for link in links {
        assert!(root().join("docs").join(link).exists(), "{link}");
    }
    // Every row has a test.
    let rows = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.ends_with("| test |") && !line.starts_with("|---"));
    for row in rows {
        assert!(
            row.trim_end_matches(" |")
                .rsplit('|')
                .next()
                .unwrap()
                .contains("::"),
            "{row}"
        );
    }
    for example in fs::read_dir(root().join("examples")).unwrap() {
        let name = example.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.ends_with(".yaml") || table.contains(&format!("../examples/{name}")),
            "{name}"
        );
    }
}
