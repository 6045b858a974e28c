//! JSON held against a schema of `docs/schema`, as far as those go (JSON Schema 2020-12): a keyword that is not known fails.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Fails with the place where `value` is not as `docs/schema/NAME.json` says.
pub(crate) fn assert_valid(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/schema/{name}.json"));
    let root: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let schema = Schema { root: &root };
    schema.check(&root, value, "");
}

struct Schema<'a> {
    root: &'a Value,
}

impl Schema<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) {
        for (keyword, rule) in schema.as_object().unwrap() {
            match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" | "minimum" => {}
                "additionalProperties" | "properties" => {}
                "$ref" => {
                    let pointer = rule.as_str().unwrap().trim_start_matches('#');
                    self.check(self.root.pointer(pointer).unwrap(), value, at);
                }
                "const" => assert_eq!(value, rule, "at {at}"),
                "enum" => assert!(rule.as_array().unwrap().contains(value), "at {at}: {value}"),
                "type" => assert!(is_of_type(value, rule), "at {at}: {value} is no {rule}"),
                "required" => self.required(rule, value, at),
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}/{index}"));
                    }
                }
                other => panic!("unknown keyword {other}"),
            }
        }
        self.members(schema, value, at);
    }

    fn required(&self, names: &Value, value: &Value, at: &str) {
        let Some(members) = value.as_object() else {
            return;
        };
        for name in names.as_array().unwrap() {
            let name = name.as_str().unwrap();
            assert!(members.contains_key(name), "at {at}: no {name}");
        }
    }

    fn members(&self, schema: &Value, value: &Value, at: &str) {
        let others = &schema["additionalProperties"];
        for (name, member) in value.as_object().into_iter().flatten() {
            let at = format!("{at}/{name}");
            match (&schema["properties"][name], others) {
                (Value::Null, Value::Bool(false)) => panic!("at {at}: not in the schema"),
                (Value::Null, Value::Object(_)) => self.check(others, member, &at),
                (Value::Null, _) => {}
                (own, _) => self.check(own, member, &at),
            }
        }
    }
}

fn is_of_type(value: &Value, rule: &Value) -> bool {
    let types = match rule {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    types.iter().any(|kind| match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    })
}
