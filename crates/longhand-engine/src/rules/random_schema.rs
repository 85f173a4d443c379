//! Random JSON schemas, for tests: each one's values are short, but for what refers to itself.

use rand::RngExt;
use serde_json::{Map, Value, json};

/// A schema with objects, arrays, lists of values, bounded numbers, strings with patterns and
/// lengths, alternatives, references and one that refers to itself.
pub(crate) fn random_schema(random: &mut impl RngExt) -> Value {
    let mut schema = object(random, 3);
    let next = json!({ "$ref": "#/$defs/chain" });
    let chain = json!({
        "type": "object",
        "properties": { "value": leaf(random), "next": next },
        "required": ["value"],
        "additionalProperties": false,
    });
    schema["$defs"] = json!({ "leaf": leaf(random), "part": object(random, 1), "chain": chain });
    schema
}

fn any(random: &mut impl RngExt, depth: usize) -> Value {
    match random.random_range(0..8) {
        0 | 1 if depth > 0 => object(random, depth - 1),
        2 if depth > 0 => array(random, depth - 1),
        3 if depth > 0 => {
            let some: Vec<Value> = (0..random.random_range(1..4)).map(|_| leaf(random)).collect();
            json!({ "anyOf": some })
        }
        4 if depth > 0 => {
            let name = ["leaf", "part", "chain"][random.random_range(0..3)];
            json!({ "$ref": format!("#/$defs/{name}") })
        }
        _ => leaf(random),
    }
}

fn object(random: &mut impl RngExt, depth: usize) -> Value {
    const NAMES: [&str; 6] = ["name", "a b", "größe", "id", "x\"y", "n"];
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for name in NAMES {
        if random.random_bool(0.5) {
            properties.insert(name.into(), any(random, depth));
            if random.random_bool(0.7) {
                required.push(name);
            }
        }
    }
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    })
}

fn array(random: &mut impl RngExt, depth: usize) -> Value {
    let least = random.random_range(0..3);
    let most = least + random.random_range(0..3);
    let items = any(random, depth);
    match random.random_bool(0.3) {
        true => json!({ "type": "array", "prefixItems": [leaf(random), items], "items": false,
                        "minItems": 1 }),
        false => json!({ "type": "array", "items": items, "minItems": least, "maxItems": most }),
    }
}

fn leaf(random: &mut impl RngExt) -> Value {
    const PATTERNS: [&str; 5] =
        ["^[a-z]{2,5}$", "^[A-Z]{3}-[0-9]{2,4}$", "^(yes|no|maybe)$", "^[^\"\\\\]{0,4}$", "^\\d+$"];
    match random.random_range(0..10) {
        0 => json!({ "type": "boolean" }),
        1 => json!({ "type": "null" }),
        2 => {
            let value = ["one", "zwei", "三"][random.random_range(0..3)];
            json!({ "const": value })
        }
        3 => json!({ "enum": ["red", 7, "dark \"blue\"", null, -1.5, true] }),
        4 | 5 => {
            let least = random.random_range(-200..200);
            let most = least + random.random_range(0..300);
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        6 => {
            let least = f64::from(random.random_range(-4000..4000)) / 8.0;
            let most = least + f64::from(random.random_range(1..2000)) / 4.0;
            let upper = if random.random_bool(0.5) { "maximum" } else { "exclusiveMaximum" };
            json!({ "type": "number", "minimum": least, upper: most })
        }
        7 => json!({ "type": "integer", "minimum": 0, "maximum": 100,
                     "multipleOf": random.random_range(2..8) }),
        8 => {
            let least = random.random_range(0..4);
            let most = least + random.random_range(0..9);
            json!({ "type": "string", "minLength": least, "maxLength": most })
        }
        _ => json!({ "type": "string", "pattern": PATTERNS[random.random_range(0..5)] }),
    }
}
