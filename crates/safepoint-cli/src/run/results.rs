//! Results to standard output, each after it is durable.

use std::io::{self, BufWriter, Stdout, Write};

use safepoint::job::{Done, ResultSink};

use crate::commands::results::result_line;
use crate::page::with_schema;
use crate::render;
use crate::ui::Pen;

/// Writes results to standard output: their text, or a JSON object each.
pub(super) struct StdoutSink {
    out: BufWriter<Stdout>,
    is_json: bool,
    pen: Pen,
    is_terminal: bool,
}

impl StdoutSink {
    pub(super) fn new(is_json: bool, pen: Pen) -> Self {
        use std::io::IsTerminal;
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self {
            out: BufWriter::with_capacity(64 * 1024, stdout),
            is_json,
            pen,
            is_terminal,
        }
    }

    fn write(&mut self, done: &Done<'_>) -> io::Result<()> {
        if self.is_json {
            let line = result_line(
                done.index,
                done.key,
                "done",
                done.content,
                Some(done.result),
                done.omitted,
                done.exit_code,
                Some(done.duration_us),
                done.attempts,
                None,
            );
            let line = with_schema(line).to_string();
            return writeln!(self.out, "{}", render::safe_json(&line));
        }
        if done.result.is_empty() {
            return Ok(());
        }
        // A worker's answer that is a string is text; any other answer is shown as the JSON that it is.
        let text = if done.exit_code.is_none() {
            serde_json::from_slice::<String>(done.result).ok()
        } else {
            None
        };
        let bytes = text.as_ref().map_or(done.result, |text| text.as_bytes());
        if self.is_terminal {
            self.out
                .write_all(render::safe(&String::from_utf8_lossy(bytes), true).as_bytes())?;
        } else {
            self.out.write_all(bytes)?;
        }
        if !bytes.ends_with(b"\n") {
            self.out.write_all(b"\n")?;
        }
        if done.omitted > 0 {
            writeln!(self.out, "[safepoint: {} bytes left out]", done.omitted)?;
        }
        Ok(())
    }
}

impl ResultSink for StdoutSink {
    fn result(&mut self, done: &Done<'_>) -> io::Result<()> {
        if !self.is_terminal {
            return self.write(done);
        }
        // On a terminal the bar has to make room.
        let pen = self.pen.clone();
        pen.while_hidden(|| {
            self.write(done)?;
            self.out.flush()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
