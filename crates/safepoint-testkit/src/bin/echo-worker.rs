//! A persistent worker that answers each item with itself, as fast as it can: the floor for benchmarks.
//!
//! It reads lines such as `{"id":7,"index":7,"key":"7","attempt":1,"item":"x"}` in large pieces, answers
//! `{"id":7,"result":"x"}`, and flushes when it has used up what it had read: a worker that waited for more before
//! it answered would deadlock, one that flushed each answer would measure system calls. It ends with its input.

use std::io::{self, Read, Write};
use std::process::ExitCode;

const PIECE: usize = 256 * 1024;

fn main() -> ExitCode {
    match echo(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // The runner has gone.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "echo-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn echo(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut filled = 0;
    let mut answers = Vec::with_capacity(PIECE);
    loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let new = input.read(&mut buffer[filled..])?;
        let end = filled + new;
        let mut start = 0;
        // What was there before holds no line end.
        while let Some(length) = buffer[filled.max(start)..end]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let stop = filled.max(start) + length;
            answer(&buffer[start..stop], &mut answers)?;
            start = stop + 1;
        }
        if new == 0 {
            answer(&buffer[start..end], &mut answers)?;
        }
        output.write_all(&answers)?;
        output.flush()?;
        if new == 0 {
            return Ok(());
        }
        answers.clear();
        buffer.copy_within(start..end, 0);
        filled = end - start;
    }
}

fn answer(line: &[u8], answers: &mut Vec<u8>) -> io::Result<()> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let Some((id, item)) = id_and_item(line) else {
        let text = format!("no id and item in `{}`", String::from_utf8_lossy(line));
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    };
    answers.extend_from_slice(b"{\"id\":");
    answers.extend_from_slice(id);
    answers.extend_from_slice(b",\"result\":");
    answers.extend_from_slice(item);
    answers.extend_from_slice(b"}\n");
    Ok(())
}

/// The raw values of two members of a JSON object. Members inside of other values, or their look-alikes inside
/// of texts, are stepped over.
fn id_and_item(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut id, mut item) = (None, None);
    let mut rest = line.trim_ascii().strip_prefix(b"{")?.trim_ascii_start();
    while rest != b"}" {
        let (name, after) = rest.split_at_checked(value_length(rest)?)?;
        let after = after
            .trim_ascii_start()
            .strip_prefix(b":")?
            .trim_ascii_start();
        let (value, after) = after.split_at_checked(value_length(after)?)?;
        match name {
            b"\"id\"" => id = Some(value),
            b"\"item\"" => item = Some(value),
            _ => {}
        }
        rest = after.trim_ascii_start();
        rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
    }
    Some((id?, item?))
}

/// How long the JSON value is that `text` begins with. Its grammar is trusted: only where it ends matters.
fn value_length(text: &[u8]) -> Option<usize> {
    let mut depth = 0_u32;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => at += string_length(&text[at..])?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ if depth > 0 => {
                at += 1;
                continue;
            }
            _ => {
                let end = text[at..]
                    .iter()
                    .position(|byte| b",}] \t\r".contains(byte))?;
                at += end;
                if end == 0 {
                    return None;
                }
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// With both quotes.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most so many bytes at once.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(buffer.len());
            (&mut self.0).take(most as u64).read(buffer)
        }
    }

    #[test]
    fn any_item_comes_back_however_it_arrives() {
        let items = [
            r#""x""#,
            r#""""#,
            r#""a \"id\":9,\"item\":1} \\""#,
            r#"{"id":3,"item":[1,{"a":"}]"}],"b":{}}"#,
            "null",
            "-1.5e3",
            "[]",
            r#""ü\u00fc""#,
        ];
        let (mut input, mut expected) = (String::new(), String::new());
        for (id, item) in items.iter().enumerate() {
            let usual =
                format!(r#"{{"id":{id},"index":7,"key":"\"item\":0","attempt":1,"item":{item}}}"#);
            let odd = format!(r#" {{ "item" : {item} , "id" : "{id}" }} "#);
            input.extend([usual.as_str(), "\n", &odd, "\r\n\n"]);
            let usual = format!(r#"{{"id":{id},"result":{item}}}"#);
            let odd = format!(r#"{{"id":"{id}","result":{item}}}"#);
            expected.extend([usual.as_str(), "\n", &odd, "\n"]);
        }
        for piece in [1, 7, 64, PIECE] {
            for end in ["", "{\"id\":1,\"item\":2}"] {
                let mut output = Vec::new();
                let input = input.clone() + end;
                echo(&mut Slow(input.as_bytes(), piece), &mut output).unwrap();
                let last = if end.is_empty() {
                    ""
                } else {
                    "{\"id\":1,\"result\":2}\n"
                };
                assert_eq!(String::from_utf8(output).unwrap(), expected.clone() + last);
            }
        }
    }

    #[test]
    fn a_line_longer_than_the_buffer_comes_back() {
        let item = format!("\"{}\"", "y".repeat(3 * PIECE));
        let mut output = Vec::new();
        echo(
            &mut format!("{{\"id\":1,\"item\":{item}}}\n").as_bytes(),
            &mut output,
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            format!("{{\"id\":1,\"result\":{item}}}\n")
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "x",
            "{",
            "{}",
            "{\"id\":1}",
            "{\"id\":1,\"item\"",
            "{\"id\":1,\"item\":\"x",
            "{,}",
            "[1]",
            "{\"id\":]",
        ] {
            let mut output = Vec::new();
            assert!(
                echo(&mut format!("{line}\n").as_bytes(), &mut output).is_err(),
                "{line}"
            );
        }
    }
}
