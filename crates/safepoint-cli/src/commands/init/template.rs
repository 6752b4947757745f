//! Filling a template: `{{name}}` becomes a value.

/// Fills `template`. Values are put in as they are, and what they contain is not filled again.
///
/// # Panics
///
/// If the template names a value that is not there. Templates are part of the program, and a test fills each of them.
pub(super) fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, (name, after))) = rest
        .split_once("{{")
        .and_then(|(before, after)| Some((before, after.split_once("}}")?)))
    {
        filled.push_str(before);
        let value = values.iter().find(|(known, _)| *known == name);
        let Some((_, value)) = value else {
            unreachable!("the template names `{name}`, which nobody gives it")
        };
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_once_and_not_read_again() {
        let values = [("a", "{{b}}".to_owned()), ("b", "}}{{".to_owned())];
        assert_eq!(
            fill("{{a}} and {{b}}, { } {{", &values),
            "{{b}} and }}{{, { } {{"
        );
    }
}
