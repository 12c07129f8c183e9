//! Checks a document against a JSON Schema and reports every problem, in words that a person can act on.
//! Knows the constructs that our own schemas use, no more.

use std::fmt;

use serde_json::Value;

/// Something wrong in a config: where, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key; empty for the document as a whole.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

/// Everything in `document` that `schema` does not allow.
pub(super) fn check(schema: &Value, document: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    Checker { root: schema }.value(schema, document, "", &mut problems);
    problems
}

struct Checker<'a> {
    root: &'a Value,
}

/// The properties of an object schema, with those of what it refers to.
#[derive(Default)]
struct Object<'a> {
    properties: Vec<(&'a str, &'a Value)>,
    required: Vec<&'a str>,
    closed: bool,
}

impl<'a> Checker<'a> {
    fn value(&self, schema: &'a Value, value: &Value, key: &str, problems: &mut Vec<Problem>) {
        if let Some(target) = self.target(schema)
            && schema.get("properties").is_none()
        {
            return self.value(target, value, key, problems);
        }
        if let Some(variants) = ["oneOf", "anyOf"]
            .iter()
            .find_map(|k| schema.get(k))
            .and_then(Value::as_array)
        {
            return self.choice(variants, value, key, problems);
        }
        if let Some(expected) = schema.get("const") {
            if value != expected {
                problems.push(Problem::new(key, format!("expected {expected}, found {value}")));
            }
            return;
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
            if !allowed.contains(value) {
                problems.push(unknown_choice(key, value, &texts(allowed)));
            }
            return;
        }
        if !self.has_type(schema, value) {
            let expected = expected_type(schema);
            return problems.push(Problem::new(
                key,
                format!("expected {expected}, found {}", describe(value)),
            ));
        }
        match value {
            Value::Object(map) => self.object(schema, map, key, problems),
            Value::Array(items) => {
                if let Some(schema) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.value(schema, item, &format!("{key}[{index}]"), problems);
                    }
                }
                let bound = |name| schema.get(name).and_then(Value::as_u64);
                if bound("minItems").is_some_and(|n| (items.len() as u64) < n)
                    || bound("maxItems").is_some_and(|n| (items.len() as u64) > n)
                {
                    let n = bound("minItems").unwrap_or_default();
                    problems.push(Problem::new(
                        key,
                        format!("expected {n} entries, found {}", items.len()),
                    ));
                }
            }
            _ => {}
        }
    }

    fn object(
        &self,
        schema: &'a Value,
        map: &serde_json::Map<String, Value>,
        key: &str,
        problems: &mut Vec<Problem>,
    ) {
        let mut object = Object::default();
        self.collect(schema, &mut object);
        let path = |name: &str| join(key, name);
        for (name, value) in map {
            match object.properties.iter().find(|(known, _)| known == name) {
                Some((_, schema)) => self.value(schema, value, &path(name), problems),
                None if object.closed => {
                    let known: Vec<&str> = object.properties.iter().map(|(known, _)| *known).collect();
                    problems.push(Problem::new(
                        path(name),
                        format!("unknown key{}", suggestion(name, &known)),
                    ));
                }
                None => {}
            }
        }
        for name in object.required.iter().filter(|name| !map.contains_key(**name)) {
            problems.push(Problem::new(path(name), "missing"));
        }
    }

    fn collect(&self, schema: &'a Value, object: &mut Object<'a>) {
        if let Some(target) = self.target(schema) {
            self.collect(target, object);
        }
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            object
                .properties
                .extend(properties.iter().map(|(name, schema)| (name.as_str(), schema)));
        }
        if let Some(required) = schema.get("required").and_then(Value::as_array) {
            object.required.extend(required.iter().filter_map(Value::as_str));
        }
        let closed = |name| schema.get(name).and_then(Value::as_bool) == Some(false);
        object.closed |= closed("additionalProperties") || closed("unevaluatedProperties");
    }

    /// One of several schemas: the one that fits, else the one that was probably meant.
    fn choice(&self, variants: &'a [Value], value: &Value, key: &str, problems: &mut Vec<Problem>) {
        let tries = variants.iter().map(|variant| {
            let mut found = Vec::new();
            self.value(variant, value, key, &mut found);
            (variant, found)
        });
        let tries: Vec<_> = tries.collect();
        if tries.iter().any(|(_, found)| found.is_empty()) {
            return;
        }
        // A variant is meant if its tag or its only key is there.
        if let Some((_, found)) = tries.iter().find(|(variant, _)| self.is_meant(variant, value)) {
            return problems.extend(found.iter().cloned());
        }
        let named: Vec<&str> = variants.iter().filter_map(|variant| self.name(variant)).collect();
        if !named.is_empty() {
            let path = |name: &str| join(key, name);
            let tag = variants.iter().find_map(|variant| Some(self.tag(variant)?.0));
            let first_key = value.as_object().and_then(|map| map.keys().next());
            return problems.push(match (tag, first_key) {
                (Some(tag), _) if value.is_object() => match value.get(tag) {
                    Some(chosen) => unknown_choice(&path(tag), chosen, &named),
                    None => Problem::new(path(tag), format!("missing; it can be {}", named.join(", "))),
                },
                (_, Some(first)) => {
                    Problem::new(path(first), format!("unknown key{}", suggestion(first, &named)))
                }
                _ => unknown_choice(key, value, &named),
            });
        }
        // Otherwise say what is wrong with it as the variant that has its type, else as the first that is not null.
        let is_null = |variant: &Value| variant.get("type") == Some(&"null".into());
        let of_its_type = |variant: &'a Value| {
            !is_null(variant) && self.has_type(self.target(variant).unwrap_or(variant), value)
        };
        let meant = tries.iter().position(|(variant, _)| of_its_type(variant));
        let meant = meant.or_else(|| tries.iter().position(|(variant, _)| !is_null(variant)));
        if let Some((_, found)) = meant.and_then(|index| tries.get(index)) {
            problems.extend(found.iter().cloned());
        }
    }

    fn is_meant(&self, variant: &'a Value, value: &Value) -> bool {
        match self.tag(variant) {
            Some((key, choice)) => value.get(key) == Some(choice),
            None => {
                let mut object = Object::default();
                self.collect(variant, &mut object);
                object.required.len() == 1 && object.required.iter().all(|name| value.get(name).is_some())
            }
        }
    }

    /// What a person writes to choose this variant: its text, its tag's value, or its only key.
    fn name(&self, variant: &'a Value) -> Option<&'a str> {
        let constant = variant
            .get("const")
            .or_else(|| Some(self.tag(variant)?.1))
            .and_then(Value::as_str);
        constant.or_else(|| match variant.get("required")?.as_array()?.as_slice() {
            [only] => only.as_str(),
            _ => None,
        })
    }

    /// The key that tells this variant from the others, with the value that chooses it.
    fn tag(&self, variant: &'a Value) -> Option<(&'a str, &'a Value)> {
        let properties = variant.get("properties")?.as_object()?;
        properties
            .iter()
            .find_map(|(key, schema)| Some((key.as_str(), schema.get("const")?)))
    }

    fn target(&self, schema: &'a Value) -> Option<&'a Value> {
        self.root
            .pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)
    }

    fn has_type(&self, schema: &Value, value: &Value) -> bool {
        let is = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" if schema.get("minimum").is_some_and(|m| m.as_f64() == Some(0.0)) => value.is_u64(),
            "integer" => value.is_i64() || value.is_u64(),
            _ => true,
        };
        match schema.get("type") {
            Some(Value::String(name)) => is(name),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is),
            _ => true,
        }
    }
}

fn join(key: &str, name: &str) -> String {
    if key.is_empty() {
        name.to_owned()
    } else {
        format!("{key}.{name}")
    }
}

fn texts(values: &[Value]) -> Vec<&str> {
    values.iter().filter_map(Value::as_str).collect()
}

fn expected_type(schema: &Value) -> String {
    let word = |name: &str| match name {
        "object" => "keys and values",
        "array" => "a list",
        "string" => "text",
        "boolean" => "true or false",
        "null" => "null",
        "integer" if schema.get("minimum").is_some() => "a whole number, not negative",
        "integer" => "a whole number",
        _ => "a number",
    };
    match schema.get("type") {
        Some(Value::Array(names)) => texts(names)
            .into_iter()
            .map(word)
            .collect::<Vec<_>>()
            .join(" or "),
        Some(Value::String(name)) => word(name).to_owned(),
        _ => "another value".to_owned(),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Object(_) => "keys and values".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

fn unknown_choice(key: &str, value: &Value, known: &[&str]) -> Problem {
    let hint = value.as_str().map(|name| suggestion(name, known));
    let hint = hint.filter(|text| text.contains("did you mean"));
    let hint = hint.unwrap_or_else(|| format!("; it can be {}", known.join(", ")));
    Problem::new(key, format!("unknown choice {}{hint}", describe(value)))
}

/// `; did you mean …?` for the nearest known name, or the list of all where none is near.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    // Either measure alone misses what the other finds: `vio` for `voi`, `clip` for `clip_min`.
    let likeness = |known: &str| {
        strsim::jaro_winkler(name, known).max(strsim::normalized_damerau_levenshtein(name, known) + 0.15)
    };
    let near = known.iter().map(|known| (likeness(known), known));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, nearest)) if likeness > 0.75 => format!("; did you mean `{nearest}`?"),
        _ => format!("; known here are {}", known.join(", ")),
    }
}
