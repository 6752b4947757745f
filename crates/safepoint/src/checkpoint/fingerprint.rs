//! What a state is of: the settings that must be the same for it to be resumed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// What decides results, by key: the model's size, the seed, the data's version. What decides speed only does not belong here.
///
/// ```
/// use safepoint::checkpoint::Fingerprint;
/// let of = Fingerprint::new().with("layers", 12).with("data", "v3");
/// assert_eq!(of.to_string(), r#"data="v3", layers=12"#);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, Value>);

impl Fingerprint {
    /// One without keys, which fits only states without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// As JSON in which equal fingerprints are equal: keys are sorted, those of values too.
    pub(super) fn canonical(&self) -> String {
        let mut keys: serde_json::Map<String, Value> = serde_json::Map::new();
        keys.extend(
            self.0
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        let mut object = Value::Object(keys);
        object.sort_all_objects();
        object.to_string()
    }

    /// The keys that differ, but those in `ignored`, each as "`key`: stored, now".
    pub(super) fn differences(&self, stored: &Self, ignored: &[String]) -> Vec<String> {
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(stored.0.keys()).collect();
        let differ = keys
            .into_iter()
            .filter(|key| !ignored.contains(key) && self.0.get(*key) != stored.0.get(*key));
        let told = |value: Option<&Value>| value.map_or("absent".to_owned(), Value::to_string);
        differ
            .map(|key| {
                format!(
                    "`{}` was {} and is {}",
                    key.escape_debug(),
                    told(stored.0.get(key)),
                    told(self.0.get(key))
                )
            })
            .collect()
    }

    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] with every key that differs.
    pub(super) fn check(&self, stored: &Self, ignored: &[String], what: &str) -> Result<()> {
        let differences = self.differences(stored, ignored);
        if differences.is_empty() {
            return Ok(());
        }
        let message = format!("{what} is of other settings: {}", differences.join("; "));
        Err(Error::new(ErrorKind::Incompatible, message).with_hint(
            "go back to the earlier settings, ignore these keys, accept the change, or choose another directory",
        ))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (key, value)) in self.0.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{}={value}", key.escape_debug())?;
        }
        Ok(())
    }
}
