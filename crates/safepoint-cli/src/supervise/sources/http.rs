//! Questions to the metadata service of a cloud: plain HTTP to an address of the machine's own link, answered within moments.
//!
//! HTTP/1.0, so that the answer ends with the connection and is never in chunks (RFC 1945).

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long each part of an exchange may take.
const LIMIT: Duration = Duration::from_secs(2);
/// The longest answer, in bytes.
const LONGEST: u64 = 64 * 1024;

/// An answer: the status code and the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) body: String,
}

/// Asks; nothing when nobody answers, or not in HTTP.
pub(super) fn ask(
    endpoint: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<Answer> {
    let address = endpoint.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    let host = endpoint.strip_suffix(":80").unwrap_or(endpoint);
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).ok()?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    let is_http = words.next()?.starts_with("HTTP/1.");
    let code = words.next()?.parse().ok()?;
    is_http.then(|| Answer {
        code,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart_and_nonsense_is_none() {
        let answer = parse("HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nno\r\n\r\nmore");
        let body = "no\r\n\r\nmore".to_owned();
        assert_eq!(answer, Some(Answer { code: 404, body }));
        for bad in ["", "hello", "HTTP/1.1\r\n\r\n", "SSH-2.0 200 x\r\n\r\n"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
