//! Values with one fault each, made from a schema: seeded, so that a failure comes again.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

/// The kinds of JSON values. A whole number is a number too.
const KINDS: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// A value with one fault in it.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Where the fault is, as a path from the body's root; empty for the body itself.
    pub(super) path: String,
    /// What is wrong there.
    pub(super) what: &'static str,
    /// The whole value, with the fault in it.
    pub(super) value: Value,
    /// The last field that a parser can name: within alternatives it tells none from another.
    pub(super) named: String,
}

/// What can be wrong with a value of a schema, and within it.
pub(super) fn faults(document: &Value, name: &str, schema: &Value, seed: u64) -> Vec<Fault> {
    let random = StdRng::seed_from_u64(seed);
    let mut faults = Faults { document, random, found: Vec::new() };
    faults.of(&Place { path: name.to_owned(), within: None }, schema);
    faults.found
}

/// The document, and random values for what is wrong.
struct Faults<'a> {
    document: &'a Value,
    random: StdRng,
    found: Vec<Fault>,
}

/// Where a schema is, while faults are made.
#[derive(Clone)]
struct Place {
    path: String,
    /// The last field that a parser can name, if it is not this one.
    within: Option<String>,
}

impl Place {
    fn of(&self, path: String) -> Self {
        Self { path, within: self.within.clone() }
    }

    fn field(&self, name: &str) -> Self {
        match self.path.is_empty() {
            true => self.of(name.to_owned()),
            false => self.of(format!("{}.{name}", self.path)),
        }
    }
}

impl Faults<'_> {
    /// A schema with what it refers to.
    fn resolved(&self, schema: &Value) -> Value {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
            return schema.clone();
        };
        let mut whole = self.document.pointer(&reference[1..]).cloned().unwrap();
        let beside =
            schema.as_object().unwrap().clone().into_iter().filter(|(key, _)| key != "$ref");
        whole.as_object_mut().unwrap().extend(beside);
        whole
    }

    /// The alternatives of a schema, resolved; none where it has none.
    fn alternatives(&self, schema: &Value) -> Vec<Value> {
        let list = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        list.into_iter().flatten().map(|it| self.resolved(it)).collect()
    }

    /// The values of a schema that lists them.
    fn listed(&self, schema: &Value) -> Option<Vec<Value>> {
        if let Some(value) = schema.get("const") {
            return Some(vec![value.clone()]);
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return Some(values.clone());
        }
        let alternatives = self.alternatives(schema);
        let lists: Option<Vec<_>> = alternatives.iter().map(|it| self.listed(it)).collect();
        lists.filter(|lists| !lists.is_empty()).map(|lists| lists.concat())
    }

    /// The kinds of values that a schema allows.
    fn kinds(&self, schema: &Value) -> BTreeSet<String> {
        if let Some(values) = self.listed(schema) {
            return values.iter().map(|value| kind(value).to_owned()).collect();
        }
        match schema.get("type") {
            Some(Value::String(kind)) => BTreeSet::from([kind.clone()]),
            Some(Value::Array(kinds)) => {
                kinds.iter().map(|kind| kind.as_str().unwrap().to_owned()).collect()
            }
            _ => {
                let alternatives = self.alternatives(schema);
                match alternatives.is_empty() {
                    true => KINDS.map(str::to_owned).into(),
                    false => alternatives.iter().flat_map(|it| self.kinds(it)).collect(),
                }
            }
        }
    }

    /// A small value that a schema allows.
    fn sample(&self, name: &str, schema: &Value) -> Value {
        let schema = self.resolved(schema);
        if name == "model" {
            return json!("nano");
        }
        if let Some(values) = self.listed(&schema) {
            return values.into_iter().find(|value| !value.is_null()).unwrap_or_default();
        }
        let fields = schema.get("properties").and_then(Value::as_object);
        let alternatives = self.alternatives(&schema);
        let real = alternatives.iter().find(|it| it["type"] != "null");
        if let (None, Some(alternative)) = (fields, real) {
            return self.sample(name, alternative);
        }
        let kinds = self.kinds(&schema);
        let least = |key: &str| schema[key].as_u64().unwrap_or(0).max(1) as usize;
        match ["object", "string", "boolean", "array"].into_iter().find(|&it| kinds.contains(it)) {
            Some("object") => {
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                let names = required.iter().map(|name| name.as_str().unwrap());
                let mut fields: Map<String, Value> = names
                    .map(|name| (name.to_owned(), self.sample(name, &schema["properties"][name])))
                    .collect();
                if let Some(Value::Object(more)) = real.map(|it| self.sample(name, it)) {
                    fields.extend(more);
                }
                Value::Object(fields)
            }
            Some("string") => json!("a".repeat(least("minLength"))),
            Some("boolean") => json!(true),
            Some("array") => json!(vec![self.sample("", &schema["items"]); least("minItems")]),
            _ => json!(1),
        }
    }

    fn add(&mut self, place: &Place, what: &'static str, value: Value) {
        let named = place.within.clone().unwrap_or_else(|| place.path.clone());
        self.found.push(Fault { path: place.path.clone(), what, value, named });
    }

    /// A value of a kind.
    fn random(&mut self, kind: &str) -> Value {
        match kind {
            "null" => Value::Null,
            "boolean" => json!(self.random.random::<bool>()),
            "integer" => json!(self.random.random::<i32>()),
            "number" => json!(f64::from(self.random.random::<i16>()) + 0.5),
            "string" => json!(format!("text {}", self.random.random::<u32>())),
            "array" => json!([[]]),
            _ => json!({"no_such_field": self.random.random::<u32>()}),
        }
    }

    /// What can be wrong with a value, and within it.
    fn of(&mut self, place: &Place, schema: &Value) {
        let schema = self.resolved(schema);
        let kinds = self.kinds(&schema);
        for kind in KINDS {
            let fits = kinds.contains(kind) || (kind == "integer" && kinds.contains("number"));
            if !fits {
                let what = if kind == "null" { "null" } else { "the wrong type" };
                let value = self.random(kind);
                self.add(place, what, value);
            }
        }
        if self.listed(&schema).is_some() {
            if kinds.contains("string") {
                self.add(place, "an unknown value", json!("no_such_value"));
            }
            return;
        }
        let fields = schema.get("properties").and_then(Value::as_object);
        if fields.is_none() && !self.alternatives(&schema).is_empty() {
            return self.of_alternatives(place, &schema);
        }
        if kinds.contains("integer") || kinds.contains("number") {
            self.of_number(place, &schema);
        }
        if kinds.contains("string") {
            self.of_text(place, &schema);
        }
        if kinds.contains("array") {
            self.of_list(place, &schema);
        }
        match fields {
            Some(fields) => self.of_object(place, &schema, fields),
            None => self.of_map(place, &schema),
        }
    }

    fn of_alternatives(&mut self, place: &Place, schema: &Value) {
        let alternatives = self.alternatives(schema);
        let real: Vec<_> = alternatives.iter().filter(|it| it["type"] != "null").collect();
        let item = format!("{}[0]", place.path);
        let items = real.iter().filter_map(|it| it.get("items"));
        let items: BTreeSet<String> =
            items.flat_map(|items| self.kinds(&self.resolved(items))).collect();
        let mut within = place.clone();
        if real.len() > 1 {
            within.within.get_or_insert_with(|| place.path.clone());
        }
        for alternative in real {
            let before = self.found.len();
            self.of(&within, alternative);
            let added = self.found.split_off(before);
            let is_inner = |fault: &Fault| match fault.what {
                // A value of another type may be right for another alternative.
                "null" | "the wrong type" if fault.path == place.path => false,
                "null" | "the wrong type" if fault.path == item => {
                    !items.contains(kind(&fault.value[0]))
                }
                _ => true,
            };
            self.found.extend(added.into_iter().filter(is_inner));
        }
    }

    fn of_number(&mut self, place: &Place, schema: &Value) {
        if let Some(least) = schema.get("minimum") {
            self.add(place, "below the minimum", beyond(least, -1));
        }
        if let Some(least) = schema.get("exclusiveMinimum") {
            self.add(place, "below the minimum", least.clone());
        }
        if let Some(most) = schema.get("maximum") {
            self.add(place, "above the maximum", beyond(most, 1));
        }
    }

    fn of_text(&mut self, place: &Place, schema: &Value) {
        if schema.get("minLength").and_then(Value::as_u64).unwrap_or(0) > 0 {
            self.add(place, "too short", json!(""));
        }
        if let Some(most) = schema.get("maxLength").and_then(Value::as_u64) {
            self.add(place, "too long", json!("a".repeat(most as usize + 1)));
        }
        if schema.get("pattern").is_some() {
            self.add(place, "of another pattern", json!(" "));
        }
    }

    fn of_list(&mut self, place: &Place, schema: &Value) {
        let Some(items) = schema.get("items") else { return };
        if schema.get("minItems").and_then(Value::as_u64).unwrap_or(0) > 0 {
            self.add(place, "too few", json!([]));
        }
        if let Some(most) = schema.get("maxItems").and_then(Value::as_u64) {
            let item = self.sample("", items);
            self.add(place, "too many", json!(vec![item; most as usize + 1]));
        }
        let inner = place.of(format!("{}[0]", place.path));
        self.inside(&inner, items, |value| json!([value]));
    }

    fn of_object(&mut self, place: &Place, schema: &Value, fields: &Map<String, Value>) {
        let sample = self.sample("", schema);
        let with = |name: &str, value: Value| {
            let mut sample = sample.clone();
            sample[name] = value;
            sample
        };
        self.add(&place.field("no_such_field"), "unknown", with("no_such_field", json!(1)));
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut sample = sample.clone();
            sample.as_object_mut().unwrap().remove(name);
            self.add(&place.field(name), "missing", sample);
        }
        for (name, field) in fields {
            self.inside(&place.field(name), field, |value| with(name, value));
        }
    }

    /// An object whose keys are the client's own.
    fn of_map(&mut self, place: &Place, schema: &Value) {
        let Some(values) = schema.get("additionalProperties").filter(|it| it.is_object()) else {
            return;
        };
        let values = values.clone();
        self.inside(&place.field("1"), &values, |value| json!({"1": value}));
    }

    /// The faults of what is inside a value.
    fn inside(&mut self, place: &Place, schema: &Value, around: impl Fn(Value) -> Value) {
        let before = self.found.len();
        self.of(place, schema);
        for fault in &mut self.found[before..] {
            fault.value = around(fault.value.take());
        }
    }
}

/// A number beyond a bound, which may be the last one of 64 bits.
fn beyond(bound: &Value, by: i64) -> Value {
    match bound.as_i64().and_then(|bound| bound.checked_add(by)) {
        Some(number) => json!(number),
        None if bound.is_f64() => json!(bound.as_f64().unwrap() + by as f64),
        None => json!(bound.as_f64().unwrap() * 2.0),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
