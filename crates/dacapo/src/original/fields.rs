//! The keys of the Python DaCapo's configs, taken one by one, and what is said about them meanwhile.

use serde_json::{Map, Value};

/// What is said about a translation while it is made.
#[derive(Default)]
pub(super) struct Remarks {
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<String>,
}

impl Remarks {
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(super) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }
}

/// The keys of a part of a config, each taken once: what is left in the end means nothing here.
pub(super) struct Fields {
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) left: Map<String, Value>,
}

impl Fields {
    pub(super) fn of(path: impl Into<String>, value: Value) -> Self {
        let mut left = match value {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        let kind = left.remove("__type__");
        let kind = kind
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        // Names of parts are labels without further meaning.
        Self {
            path: path.into(),
            kind,
            left,
        }
    }

    pub(super) fn take(&mut self, key: &str) -> Value {
        self.left.remove(key).unwrap_or(Value::Null)
    }

    pub(super) fn part(&mut self, key: &str) -> Fields {
        Fields::of(self.at(key), self.take(key))
    }

    pub(super) fn text(&mut self, key: &str, default: &str) -> String {
        self.take(key).as_str().unwrap_or(default).to_owned()
    }

    pub(super) fn number(&mut self, key: &str, default: f64) -> f64 {
        self.take(key).as_f64().unwrap_or(default)
    }

    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(super) fn drop_all(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    /// Notes what is left and says something.
    pub(super) fn finish(self, remarks: &mut Remarks) {
        let means_something = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        for (key, value) in self.left.iter().filter(|(_, value)| means_something(value)) {
            remarks
                .notes
                .push(format!("{} has no counterpart: {value}", self.at(key)));
        }
    }

    pub(super) fn unknown(&self, remarks: &mut Remarks) {
        if self.kind.is_empty() {
            return remarks.problem(format!("{} is missing", self.path));
        }
        remarks.problem(format!(
            "{} is a {}, which has no counterpart here",
            self.path, self.kind
        ));
    }
}
