//! Where a server listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

/// An address to listen on: a port of this machine, or a socket in a directory.
///
/// | text | listens |
/// |---|---|
/// | `127.0.0.1:8080`, `localhost:8080`, `:8080` | on this machine alone |
/// | `127.0.0.1:0` | the same, on a port that is free: [`Server::address`](super::Server::address) says which |
/// | `0.0.0.0:8080`, `[::]:8080` | for everybody who reaches the machine |
/// | `[::1]:8080` | on this machine alone, over IPv6 |
/// | `unix:/run/job.sock` | on a socket (0600), for this user alone |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(pub(super) Place);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Port(SocketAddr),
    Socket(PathBuf),
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Address {
    /// Reads an address as people write it. A port alone is one of loopback: who wants to be reached from afar says so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it is none of the forms above; names other than `localhost` are not looked up.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(refusal(text, "it names no file"))
            } else {
                Ok(Self::socket(path))
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::port(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| refusal(text, "it has no port"))?;
        match host {
            "" | "localhost" => Ok(Self::port(SocketAddr::new(LOOPBACK, port))),
            _ => Err(refusal(text, "names are not looked up")),
        }
    }

    /// A port of this machine.
    pub fn port(address: SocketAddr) -> Self {
        Self(Place::Port(address))
    }

    /// A socket in a directory.
    pub fn socket(path: impl Into<PathBuf>) -> Self {
        Self(Place::Socket(path.into()))
    }

    /// The IP address and port, unless it is a socket in a directory.
    pub fn as_port(&self) -> Option<SocketAddr> {
        match &self.0 {
            Place::Port(address) => Some(*address),
            Place::Socket(_) => None,
        }
    }

    /// The socket's path, if it is one in a directory.
    pub fn as_socket(&self) -> Option<&Path> {
        match &self.0 {
            Place::Port(_) => None,
            Place::Socket(path) => Some(path),
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match &self.0 {
            Place::Port(address) => address.ip().to_canonical().is_loopback(),
            Place::Socket(_) => true,
        }
    }
}

/// 127.0.0.1:8080.
impl Default for Address {
    fn default() -> Self {
        Self::port(SocketAddr::new(LOOPBACK, 8080))
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// As a person opens it: `http://127.0.0.1:8080/`, `unix:/run/job.sock`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Port(address) => write!(f, "http://{address}/"),
            Place::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn refusal(text: &str, why: &str) -> Error {
    Error::invalid(format!(
        "`{}` is no address to listen on: {why}",
        text.escape_debug()
    ))
    .with_hint("write for example 127.0.0.1:8080, :8080 for the same, 0.0.0.0:8080 for everybody, or unix:/run/job.sock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown, is_local) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/", true),
            (":8080", "http://127.0.0.1:8080/", true),
            ("8080", "http://127.0.0.1:8080/", true),
            ("localhost:1", "http://127.0.0.1:1/", true),
            ("0.0.0.0:9000", "http://0.0.0.0:9000/", false),
            ("[::1]:80", "http://[::1]:80/", true),
            ("[::]:80", "http://[::]:80/", false),
            (
                "[::ffff:127.0.0.1]:80",
                "http://[::ffff:127.0.0.1]:80/",
                true,
            ),
            ("unix:/run/a b.sock", "unix:/run/a b.sock", true),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(
                (address.to_string().as_str(), address.is_local()),
                (shown, is_local),
                "{text}"
            );
        }
        assert_eq!(
            Address::default(),
            Address::parse("127.0.0.1:8080").unwrap()
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":",
            "host:80",
            "127.0.0.1",
            "127.0.0.1:99999",
            "::1:80",
            "unix:",
            "http://127.0.0.1:80/",
            "*:80",
        ] {
            let refused = Address::parse(text);
            assert!(
                refused.is_err_and(
                    |error| error.kind() == ErrorKind::Invalid && error.hint().is_some()
                ),
                "{text}"
            );
        }
    }
}
