//! Results as they are recorded: JSON that was read back once.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// The longest result of a step or effect, in bytes of JSON.
pub const MAX_RESULT: usize = 16 << 20;

/// The JSON of a result, and the value that later runs will get. `what` names the step.
pub(super) fn record<T: Serialize + DeserializeOwned>(
    what: &str,
    value: &T,
) -> Result<(String, T)> {
    let refused = |problem: &str| Error::invalid(format!("the result of {what} {problem}"));
    let json = serde_json::to_string(value).map_err(|error| {
        refused("cannot be written as JSON")
            .with_hint("maps need keys that are texts; return a plain value")
            .with_source(error)
    })?;
    if json.len() > MAX_RESULT {
        let problem = format!("has {} bytes of JSON, more than {MAX_RESULT}", json.len());
        return Err(refused(&problem).with_hint("write it to a file, and return the file's path"));
    }
    // Read back now, while somebody can still do something about it, and not by the run that needs it.
    let value = serde_json::from_str(&json).map_err(|error| {
        refused("cannot be read back from its JSON")
            .with_hint("a number that is not finite becomes null in JSON; other types need a `Deserialize` that fits their `Serialize`")
            .with_source(error)
    })?;
    Ok((json, value))
}

/// The value of recorded JSON. `what` names the step, `way_out` says what to do where it is of another type.
pub(super) fn read<T: DeserializeOwned>(what: &str, json: &str, way_out: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| {
        Error::new(
            ErrorKind::Incompatible,
            format!("the recorded result of {what} is not of the type that is asked for"),
        )
        .with_hint(way_out)
        .with_source(error)
    })
}
