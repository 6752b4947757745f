//! Settings, and what systemd passed in the environment.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use super::Systemd;
use crate::error::{Error, Result};
use crate::shutdown::ShutdownToken;

/// What a sign of progress gives, unless told otherwise.
pub const DEFAULT_EXTENSION: Duration = Duration::from_secs(30);

/// Settings for a [`Systemd`]; see [`Systemd::builder`].
#[must_use = "a builder does nothing until `attach`"]
pub struct Builder {
    pub(super) address: Option<SocketAddr>,
    pub(super) watchdog: Option<Duration>,
    pub(super) extension: Duration,
    pub(super) health: Option<Box<dyn Fn() -> bool + Send>>,
}

impl Builder {
    pub(super) fn read(look_up: impl Fn(&'static str) -> Option<OsString>) -> Result<Self> {
        let address = look_up("NOTIFY_SOCKET").filter(|value| !value.is_empty());
        let address = address.as_deref().map(address_of).transpose()?;
        let watchdog = look_up("WATCHDOG_USEC");
        let watchdog = watchdog
            .map(|value| number("WATCHDOG_USEC", &value))
            .transpose()?;
        let is_ours = match look_up("WATCHDOG_PID") {
            None => true,
            Some(value) => number("WATCHDOG_PID", &value)? == u64::from(std::process::id()),
        };
        Ok(Self {
            address,
            watchdog: watchdog.filter(|_| is_ours).map(Duration::from_micros),
            extension: DEFAULT_EXTENSION,
            health: None,
        })
    }

    /// How much time each sign of progress asks systemd for, from that moment on. Default [`DEFAULT_EXTENSION`].
    ///
    /// It is also how long a unit may take without any other ending, once `TimeoutStopSec=` is over.
    pub fn extension(mut self, time: Duration) -> Self {
        self.extension = time;
        self
    }

    /// Sends `WATCHDOG=1` only while `check` says that the program is well. It is called at half of `WatchdogSec=`, on the thread that
    /// sends; one that hangs is a program that is not well.
    pub fn healthy_while(mut self, check: impl Fn() -> bool + Send + 'static) -> Self {
        self.health = Some(Box::new(check));
        self
    }

    /// Tells systemd of `token`'s stop from here on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the system has no descriptor or thread to spare.
    pub fn attach(self, token: &ShutdownToken) -> Result<Systemd> {
        Systemd::start(self, token)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("address", &self.address)
            .field("watchdog", &self.watchdog)
            .field("extension", &self.extension)
            .finish_non_exhaustive()
    }
}

/// A path, or with `@` a name in the abstract name space.
fn address_of(value: &OsStr) -> Result<SocketAddr> {
    let refuse = || {
        let shown = value.to_string_lossy();
        Error::invalid(format!(
            "`NOTIFY_SOCKET={}` is not a path or `@` and a name",
            shown.escape_debug()
        ))
    };
    let address = match value.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(value),
        _ => return Err(refuse()),
    };
    address.map_err(|error| refuse().with_source(error))
}

fn number(name: &str, value: &OsStr) -> Result<u64> {
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.filter(|number| *number > 0).ok_or_else(|| {
        let shown = value.to_string_lossy();
        Error::invalid(format!(
            "`{name}={}` is not a number from 1 on",
            shown.escape_debug()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read(variables: &[(&'static str, &str)]) -> Result<Builder> {
        Builder::read(|wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn what_systemd_passes_is_read_and_rubbish_is_refused_by_kind() {
        let none = read(&[]).unwrap();
        assert!(none.address.is_none() && none.watchdog.is_none());
        let socket = ("NOTIFY_SOCKET", "/run/systemd/notify");
        let own = std::process::id().to_string();
        let full = read(&[
            socket,
            ("WATCHDOG_USEC", "20000000"),
            ("WATCHDOG_PID", &own),
        ])
        .unwrap();
        assert!(
            full.address
                .is_some_and(|address| address.as_pathname().is_some())
        );
        assert_eq!(full.watchdog, Some(Duration::from_secs(20)));
        let abstract_name = read(&[("NOTIFY_SOCKET", "@notify")])
            .unwrap()
            .address
            .unwrap();
        assert_eq!(abstract_name.as_abstract_name(), Some(&b"notify"[..]));
        let of_another = read(&[("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "1")]).unwrap();
        assert_eq!(of_another.watchdog, None);
        for rubbish in [
            ("NOTIFY_SOCKET", "vsock:2:1234"),
            ("WATCHDOG_USEC", "0"),
            ("WATCHDOG_USEC", "soon"),
            ("WATCHDOG_PID", "-1"),
        ] {
            assert!(
                read(&[rubbish]).is_err_and(|error| error.kind() == ErrorKind::Invalid),
                "{rubbish:?}"
            );
        }
    }
}
