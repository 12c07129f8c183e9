//! What differs between two configs, key by key.

use std::fmt;

use serde_json::Value;

/// One key whose value differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Dotted path of the key.
    pub key: String,
    /// The value in the first config, if it has the key.
    pub before: Option<Value>,
    /// The value in the second config, if it has the key.
    pub after: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<Value>| value.as_ref().map_or("absent".to_owned(), Value::to_string);
        write!(
            f,
            "{}: {} became {}",
            self.key,
            show(&self.before),
            show(&self.after)
        )
    }
}

/// Every key whose value differs, in the order of the first config. Lists of one length are compared entry
/// by entry, others as a whole.
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", Some(before), Some(after), &mut found);
    found
}

fn walk(key: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
                let path = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                walk(&path, a.get(name), b.get(name), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b)))
            if a.len() == b.len() && a.iter().any(Value::is_object) =>
        {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&format!("{key}[{index}]"), Some(a), Some(b), found);
            }
        }
        _ if before == after => {}
        _ => found.push(Difference {
            key: key.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_the_keys_that_differ() {
        let before = json!({"a": 1, "b": {"c": [1, 2], "d": 2}, "e": [{"f": 1}, {"f": 2}]});
        let after = json!({"a": 1, "b": {"c": [1, 3], "g": 2}, "e": [{"f": 1}, {"f": 3}]});
        let texts: Vec<String> = differences(&before, &after)
            .iter()
            .map(Difference::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "b.c: [1,2] became [1,3]",
                "b.d: 2 became absent",
                "b.g: absent became 2",
                "e[1].f: 2 became 3"
            ]
        );
        assert!(differences(&before, &before).is_empty());
    }
}
