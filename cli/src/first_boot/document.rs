//! YAML, as metadata has it, taken apart by hand: whatever is not understood is told, and no value of it stands in an error.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value};
use zeroize::Zeroize;

/// The first line of cloud-config.
pub const CLOUD_CONFIG: &str = "#cloud-config";
/// Levels of a document; what we read has five.
const DEPTH_MAX: usize = 32;

/// A document, whose texts are wiped.
#[derive(Debug)]
pub(super) struct Document(Value);

impl Document {
    /// Reads one; an empty text is an empty mapping.
    ///
    /// # Errors
    ///
    /// Text that is no YAML, with its line, or whose top is no mapping.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = str::from_utf8(bytes).context("it is no text in UTF-8")?;
        let empty = text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line == "---"
        });
        if empty {
            return Ok(Self(Value::Object(Map::new())));
        }
        let mut options = serde_saphyr::Options::default();
        options.with_snippet = false;
        let parsed = serde_saphyr::from_str_with_options(text, options);
        let value: Value = parsed.map_err(|error| match error.location() {
            Some(at) => anyhow!("line {}: it is no valid YAML", at.line()),
            None => anyhow!("it is no valid YAML"),
        })?;
        let document = Self(value);
        ensure!(document.0.is_object(), "it is no mapping");
        ensure!(
            depth(&document.0) <= DEPTH_MAX,
            "it has more than {DEPTH_MAX} levels"
        );
        Ok(document)
    }

    /// Its top.
    pub(super) fn top(&self) -> &Map<String, Value> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        self.0.as_object().unwrap_or(&EMPTY)
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        _ => {}
    }
}

fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(map) => map.values().map(depth).max(),
        _ => return 0,
    };
    below.unwrap_or(0) + 1
}

/// What meta-data says of the machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MetaData {
    /// `instance-id`, or `uuid` of OpenStack.
    pub instance: Option<String>,
    /// `local-hostname`, or `hostname` of OpenStack.
    pub hostname: Option<String>,
    /// `public-keys` or `public_keys`: SSH keys.
    pub keys: Vec<String>,
}

/// Reads meta-data, YAML or JSON.
///
/// # Errors
///
/// Text that is no YAML, with its line, or whose top is no mapping; an instance ID that is no short printable text.
pub fn meta_data(bytes: &[u8]) -> Result<MetaData> {
    let document = Document::parse(bytes)?;
    let top = document.top();
    let first = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| top.get(*name).and_then(scalar))
    };
    let instance = first(["instance-id", "uuid"]);
    let sound = |id: &String| id.len() <= 255 && !id.is_empty() && !id.contains(char::is_control);
    ensure!(
        instance.as_ref().is_none_or(sound),
        "instance-id is no short printable text"
    );
    let keys = top.get("public-keys").or(top.get("public_keys"));
    let keys = match keys {
        Some(Value::Array(keys)) => keys.iter().filter_map(scalar).collect(),
        Some(Value::Object(keys)) => keys.values().filter_map(scalar).collect(),
        Some(key) => scalar(key).into_iter().collect(),
        None => Vec::new(),
    };
    Ok(MetaData {
        instance,
        hostname: first(["local-hostname", "hostname"]),
        keys,
    })
}

/// A text, number or truth value as text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The texts of a list, or of one text separated by commas.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().filter_map(scalar).collect(),
        Value::String(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
        _ => Vec::new(),
    }
}

/// Whether a value says yes.
pub(super) fn is_true(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Bool(true)))
}
