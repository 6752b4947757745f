//! Names of steps and effects: parts joined by `/`.

use crate::error::{Error, Result};

/// The longest whole name of a step or key of an effect, in bytes.
pub const MAX_NAME: usize = 200;

/// `name` below `scope`, or outermost. A scope without a name gives a name with an empty part, which is refused.
pub(super) fn join(scope: Option<&str>, name: &str) -> String {
    match scope {
        None => name.to_owned(),
        Some(scope) => format!("{scope}/{name}"),
    }
}

/// What a whole name stands in: all before its last part.
pub(super) fn scope_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(scope, _)| scope)
}

/// Refuses what cannot name a step.
pub(super) fn check(name: &str) -> Result<()> {
    let why = if name.len() > MAX_NAME {
        format!("it has {} bytes, more than {MAX_NAME}", name.len())
    } else if name.chars().any(char::is_control) {
        "it has a control character".to_owned()
    } else if name.split('/').any(|part| part.trim().is_empty()) {
        "a part of it is empty".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = name.escape_debug().take(MAX_NAME).collect();
    Err(Error::invalid(format!("`{shown}` cannot name a step or effect: {why}")).with_hint(format!(
        "parts are joined by `/`, have at least one letter and no control characters; all together at most {MAX_NAME} bytes"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn names_have_whole_parts_and_nothing_that_steers_a_terminal() {
        let longest = "x".repeat(MAX_NAME);
        for good in ["prepare", "T0/sub test/run-2", "größe", ".", &longest] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "x".repeat(MAX_NAME + 1);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            " ",
            "a/ /b",
            "a\nb",
            "\u{1b}[2J",
            "\u{9b}",
            &long,
        ] {
            let error = check(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
        }
    }

    #[test]
    fn a_name_stands_in_its_scope() {
        assert_eq!(join(None, "a"), "a");
        assert_eq!(join(Some("T0/sub"), "a"), "T0/sub/a");
        assert!(check(&join(Some(""), "a")).is_err());
        assert_eq!(scope_of("T0/sub/a"), "T0/sub");
        assert_eq!(scope_of("a"), "");
    }
}
