//! Dotted keys as the nested paths they stand for, without losing a value where paths meet.

use serde_json::{Map, Value};

/// How deep dotted keys may nest a document; `serde_json` has the same bound for braces.
pub const MAX_DEPTH: usize = 128;

/// `object` with dotted keys as the nested paths they stand for; it stands at `depth` of the document.
pub fn nested(object: Map<String, Value>, depth: usize) -> Map<String, Value> {
    let mut tree = Map::new();
    for (key, value) in object {
        if is_plain(&key) {
            let value = nested_value(value, depth + 1);
            put(&mut tree, key, value);
            continue;
        }
        let parts = parts(&key, MAX_DEPTH.saturating_sub(depth));
        let value = nested_value(value, depth + parts.len());
        insert(&mut tree, &parts, value);
    }
    tree
}

/// Whether `object` has only keys that stay as they are.
pub fn is_nested(object: &Map<String, Value>) -> bool {
    fn value_is_nested(value: &Value) -> bool {
        match value {
            Value::Object(object) => is_nested(object),
            Value::Array(items) => items.iter().all(value_is_nested),
            _ => true,
        }
    }
    object.iter().all(|(key, value)| is_plain(key) && value_is_nested(value))
}

fn nested_value(value: Value, depth: usize) -> Value {
    match value {
        Value::Object(object) => Value::Object(nested(object, depth)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| nested_value(item, depth + 1)).collect()),
        other => other,
    }
}

fn is_plain(key: &str) -> bool {
    !key.contains('.') && !key.trim().is_empty()
}

/// The parts of a dotted key that are not blank, at most `max_parts`.
fn parts(key: &str, max_parts: usize) -> Vec<String> {
    let parts: Vec<String> = key.split('.').filter(|part| !part.trim().is_empty()).map(str::to_owned).collect();
    match parts.len() {
        0 => vec!["_".to_owned()],
        length if length > max_parts => vec![parts.join("_")],
        _ => parts,
    }
}

/// Puts `value` at `path`; what stands in the way is kept, as [`merge`] says.
pub fn insert(tree: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut tree = tree;
    for part in parents {
        let entry = tree.entry(part.as_str()).or_insert(Value::Object(Map::new()));
        tree = object_in(entry);
    }
    put(tree, last.clone(), value);
}

fn put(tree: &mut Map<String, Value>, key: String, value: Value) {
    match tree.get_mut(&key) {
        Some(there) => merge(there, value),
        None => {
            tree.insert(key, value);
        }
    }
}

/// The object that `value` is, after it was made one if it was none.
fn object_in(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        wrap(value, "value");
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("it was made an object"),
    }
}

/// Makes `value` an object that holds it under `key`; a null holds nothing.
pub fn wrap(value: &mut Value, key: &str) {
    let inner = std::mem::replace(value, Value::Object(Map::new()));
    if let (Value::Object(object), false) = (value, inner.is_null()) {
        object.insert(key.to_owned(), inner);
    }
}

/// Adds `value` to what is `there`: objects become one, an object takes anything else as its `value`, and other values
/// become an array.
fn merge(there: &mut Value, value: Value) {
    match (there, value) {
        (Value::Object(object), Value::Object(more)) => {
            for (key, value) in more {
                put(object, key, value);
            }
        }
        (there, Value::Object(more)) => {
            let object = object_in(there);
            for (key, value) in more {
                put(object, key, value);
            }
        }
        (_, Value::Null) => {}
        (Value::Object(object), other) => put(object, "value".to_owned(), other),
        (there @ Value::Null, other) => *there = other,
        (Value::Array(items), Value::Array(more)) => items.extend(more),
        (Value::Array(items), other) => items.push(other),
        (there, other) => {
            let mut items = vec![there.take()];
            match other {
                Value::Array(more) => items.extend(more),
                other => items.push(other),
            }
            *there = Value::Array(items);
        }
    }
}

/// Takes the value at `path` out, and the objects that it leaves empty.
pub fn remove(tree: &mut Map<String, Value>, path: &[String]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return tree.remove(first);
    }
    let inner = tree.get_mut(first)?.as_object_mut()?;
    let value = remove(inner, rest)?;
    if inner.is_empty() {
        tree.remove(first);
    }
    Some(value)
}
