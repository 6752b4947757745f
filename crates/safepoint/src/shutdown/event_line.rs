//! One line of `events.jsonl`, without a JSON library: this room must stay light, and its lines are flat.

use crate::clock::rfc_3339;

/// A JSON object under construction.
pub(super) struct EventLine(String);

impl EventLine {
    pub(super) fn new(event: &str, at_ms: i64) -> Self {
        let line = Self(String::from("{"));
        line.text("timestamp", &rfc_3339(at_ms))
            .text("event", event)
    }

    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        quote(&mut self.0, value);
        self
    }

    pub(super) fn number(mut self, name: &str, value: usize) -> Self {
        self.name(name);
        self.0.push_str(&value.to_string());
        self
    }

    pub(super) fn null(mut self, name: &str) -> Self {
        self.name(name);
        self.0.push_str("null");
        self
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        quote(&mut self.0, name);
        self.0.push(':');
    }
}

/// Appends `text` as a JSON string (RFC 8259, section 7).
fn quote(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            control if control < ' ' => {
                line.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => line.push(other),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_the_message_holds() {
        let line = EventLine::new("interrupt_initiated", 0)
            .text("message", "a \"b\" \\ \n \u{1} é")
            .null("checkpoint_id")
            .number("total_interrupts", 2)
            .end();
        assert_eq!(
            line,
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"event\":\"interrupt_initiated\",\
             \"message\":\"a \\\"b\\\" \\\\ \\u000a \\u0001 é\",\"checkpoint_id\":null,\"total_interrupts\":2}"
        );
    }
}
