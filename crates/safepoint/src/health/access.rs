//! Who may ask for what.
//!
//! Two dangers, apart from strangers on the network. A page of another origin can make a browser send requests to this machine: they carry an
//! `Origin` that is not ours. And such a page can give its own name our address (DNS rebinding), so that its requests look like ours: they carry
//! that name as `Host`. So a request with a foreign `Origin` or an unknown name is refused, but for the two questions that reveal nothing.
//!
//! # Sources
//!
//! RFC 9110, section 7.2 (`Host`); RFC 6454 (`Origin`); RFC 6750 (bearer tokens).

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, FORWARDED, HOST, HeaderMap, ORIGIN};
use http::{StatusCode, Uri};

use super::refusal::Refusal;
use super::secret::Secret;

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// None for a socket in a directory, which only this user can open.
    remote: Option<IpAddr>,
    local: Option<IpAddr>,
}

impl Peer {
    /// Somebody who connected to a socket in a directory.
    pub fn unix() -> Self {
        Self {
            remote: None,
            local: None,
        }
    }

    /// Somebody who connected from `remote` to our address `local`.
    pub fn tcp(remote: SocketAddr, local: SocketAddr) -> Self {
        Self {
            remote: Some(remote.ip().to_canonical()),
            local: Some(local.ip().to_canonical()),
        }
    }

    /// Whether that is this machine.
    pub fn is_local(&self) -> bool {
        self.remote
            .is_none_or(|remote| remote.is_loopback() || self.local == Some(remote))
    }
}

/// Somebody who connected from this address, where our own is not known.
impl From<SocketAddr> for Peer {
    fn from(remote: SocketAddr) -> Self {
        Self {
            remote: Some(remote.ip().to_canonical()),
            local: None,
        }
    }
}

/// What is allowed beyond the default.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) secret: Option<Secret>,
    /// Lower case.
    pub(super) hosts: Vec<String>,
}

impl Access {
    /// Refuses what a page of another origin, or of another name, made a browser send.
    pub(super) fn check_origin(
        &self,
        peer: Peer,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let authority = authority(uri, headers)?;
        // No name leads a browser to a socket in a directory.
        if let (Some(authority), Some(_)) = (authority, peer.remote) {
            let name = name_of(authority);
            if !is_literal(name) && !is_localhost(name) && !self.is_allowed(name) {
                return Err(Refusal::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    "this server does not know the name in `Host`; it has to be allowed, or an IP address used",
                ));
            }
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let origin = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            let is_same = matches!((origin, authority), (Some(origin), Some(authority)) if origin.eq_ignore_ascii_case(authority));
            if !is_same {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "pages of another origin may ask nothing of this server",
                ));
            }
        }
        Ok(())
    }

    /// Refuses to stop the program for somebody from elsewhere without the secret; with a secret, for anybody without it.
    pub(super) fn check_stop(
        &self,
        peer: Peer,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let Some(secret) = &self.secret else {
            return if is_near(peer, uri, headers)? {
                Ok(())
            } else {
                Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "a stop can be asked for from this machine only, or with a token if the program was given one",
                ))
            };
        };
        let given = headers.get_all(AUTHORIZATION).iter();
        if given
            .filter_map(|value| bearer(value.as_bytes()))
            .any(|token| secret.is(token))
        {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "this needs the token, as `Authorization: Bearer TOKEN`",
        ))
    }

    fn is_allowed(&self, name: &str) -> bool {
        self.hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(name))
    }
}

/// Whether a request is of this machine: of its sender, of the name it was sent to, and of no proxy's client.
fn is_near(peer: Peer, uri: &Uri, headers: &HeaderMap) -> Result<bool, Refusal> {
    let is_passed_on = headers.contains_key(FORWARDED)
        || headers.contains_key("x-forwarded-for")
        || headers.contains_key("via");
    if peer.remote.is_none() {
        return Ok(!is_passed_on);
    }
    let is_ours = authority(uri, headers)?.is_none_or(|authority| {
        let name = name_of(authority);
        let ip: Option<IpAddr> = unbracketed(name).parse().ok();
        is_localhost(name)
            || ip.is_some_and(|ip| {
                let ip = ip.to_canonical();
                ip.is_loopback() || peer.local == Some(ip)
            })
    });
    Ok(peer.is_local() && is_ours && !is_passed_on)
}

/// What a request was sent to: the one `Host`, or the authority of an absolute URI, which goes first.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, Refusal> {
    const UNCLEAR: Refusal =
        Refusal::new(StatusCode::BAD_REQUEST, "there must be one plain `Host`");
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(UNCLEAR);
    }
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    host.map(|host| host.to_str().map_err(|_| UNCLEAR))
        .transpose()
}

/// An authority without its port.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are in brackets.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

fn unbracketed(name: &str) -> &str {
    name.strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name)
}

/// An address is no name, and nobody can give it another meaning.
fn is_literal(name: &str) -> bool {
    unbracketed(name).parse::<IpAddr>().is_ok()
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn peer(remote: &str, local: &str) -> Peer {
        let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 1);
        Peer::tcp(address(remote), address(local))
    }

    fn root() -> Uri {
        Uri::from_static("/")
    }

    fn origin(hosts: &[&str], pairs: &[(&'static str, &str)]) -> Option<u16> {
        let access = Access {
            secret: None,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        };
        let peer = peer("127.0.0.1", "127.0.0.1");
        let refused = access.check_origin(peer, &root(), &headers(pairs));
        refused.err().map(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn names_that_could_be_anybodys_are_refused() {
        for host in [
            "localhost",
            "LocalHost:80",
            "localhost.:80",
            "127.0.0.1:8080",
            "10.1.2.3",
            "[::1]:80",
            "[::1]",
            "job.example:443",
        ] {
            assert_eq!(origin(&["job.example"], &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[::1",
            "job.example.evil",
        ] {
            assert_eq!(
                origin(&["job.example"], &[("host", host)]),
                Some(421),
                "{host}"
            );
        }
        assert_eq!(
            origin(&[], &[("host", "localhost"), ("host", "localhost")]),
            Some(400)
        );
        let absolute = Uri::from_static("http://evil.example/");
        let near = peer("127.0.0.1", "127.0.0.1");
        let refused =
            Access::default().check_origin(near, &absolute, &headers(&[("host", "localhost")]));
        assert!(refused.is_err());
    }

    #[test]
    fn pages_of_another_origin_are_refused() {
        for (page, status) in [
            ("http://localhost:80", None),
            ("https://localhost:80", None),
            ("http://localhost", Some(403)),
            ("http://evil.example", Some(403)),
            ("null", Some(403)),
            ("", Some(403)),
        ] {
            assert_eq!(
                origin(&[], &[("host", "localhost:80"), ("origin", page)]),
                status,
                "{page}"
            );
        }
    }

    #[test]
    fn a_stop_is_for_this_machine_or_for_who_has_the_secret() {
        let ask = |access: &Access, peer: Peer, pairs: &[(&'static str, &str)]| {
            let refused = access.check_stop(peer, &root(), &headers(pairs));
            refused.err().map(|refusal| refusal.status.as_u16())
        };
        let open = Access::default();
        let near = peer("127.0.0.1", "127.0.0.1");
        let own = peer("10.0.0.1", "10.0.0.1");
        let mapped = peer("::ffff:127.0.0.1", "::ffff:127.0.0.1");
        let far = peer("10.0.0.2", "10.0.0.1");
        let local = [("host", "localhost")];
        for (peer, status) in [
            (near, None),
            (own, None),
            (mapped, None),
            (far, Some(403)),
            (Peer::unix(), None),
        ] {
            assert_eq!(ask(&open, peer, &local), status, "{peer:?}");
        }
        assert_eq!(ask(&open, Peer::unix(), &[("via", "1.1 proxy")]), Some(403));
        let page = headers(&[("host", "job"), ("origin", "http://evil.example")]);
        assert!(open.check_origin(Peer::unix(), &root(), &page).is_err());
        assert_eq!(
            open.check_origin(Peer::unix(), &root(), &headers(&[("host", "any")])),
            Ok(())
        );
        assert_eq!(ask(&open, own, &[("host", "10.0.0.1:80")]), None);
        assert_eq!(ask(&open, near, &[("host", "job.example")]), Some(403));
        assert_eq!(
            ask(
                &open,
                near,
                &[("host", "localhost"), ("x-forwarded-for", "10.0.0.2")]
            ),
            Some(403)
        );

        let guarded = Access {
            secret: Some(Secret::new("0123456789abcdef").unwrap()),
            hosts: Vec::new(),
        };
        for (given, status) in [
            ("Bearer 0123456789abcdef", None),
            ("bearer  0123456789abcdef ", None),
            ("Bearer 0123456789abcdee", Some(401)),
            ("Bearer 0123456789abcde", Some(401)),
            ("Bearer ", Some(401)),
            ("Basic 0123456789abcdef", Some(401)),
            ("0123456789abcdef", Some(401)),
        ] {
            assert_eq!(
                ask(&guarded, far, &[("authorization", given)]),
                status,
                "{given}"
            );
        }
        assert_eq!(ask(&guarded, near, &local), Some(401));
        assert_eq!(ask(&guarded, Peer::unix(), &local), Some(401));
    }
}
