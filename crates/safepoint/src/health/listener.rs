//! Where connections come from, and how they are let in.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};

use super::access::Peer;
use super::address::{Address, Place};
use super::answer::Health;
use super::connection;
use super::line::Stream;
use super::seats::Seats;
use crate::disk::NamedSocket;
use crate::error::{Error, ErrorKind, Result};

/// How long is waited when there is no room at all.
const PAUSE: Duration = Duration::from_millis(5);
/// How long is waited when there is no descriptor.
const SHORTAGE: Duration = Duration::from_millis(20);

/// A listening socket before there is a runtime.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(NamedSocket),
}

impl Bound {
    /// Listens at `address`; returns where that is, with the port that was found if none was asked for.
    pub(super) fn new(address: &Address) -> Result<(Self, Address)> {
        match &address.0 {
            Place::Port(port) => {
                let refuse = |error: io::Error| {
                    let hint = match error.kind() {
                        io::ErrorKind::AddrInUse => {
                            "another process listens there: choose another port, or 0 for one that is free"
                        }
                        io::ErrorKind::PermissionDenied => "choose a port from 1024 on",
                        io::ErrorKind::AddrNotAvailable => "choose an address of this machine",
                        _ => "choose another address",
                    };
                    Error::new(ErrorKind::Io, format!("cannot listen on `{port}`"))
                        .with_source(error)
                        .with_hint(hint)
                };
                let listener = std::net::TcpListener::bind(port).map_err(refuse)?;
                listener.set_nonblocking(true).map_err(refuse)?;
                let at = listener.local_addr().map_err(refuse)?;
                Ok((Self::Tcp(listener), Address::port(at)))
            }
            Place::Socket(path) => Ok((Self::Unix(NamedSocket::listen(path)?), address.clone())),
        }
    }

    /// The same, in the runtime that it is called in.
    pub(super) fn listen(&self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener.try_clone()?)?),
            Self::Unix(socket) => {
                Listener::Unix(UnixListener::from_std(socket.listener().try_clone()?)?)
            }
        })
    }

    /// A descriptor to give up when there is no other left.
    pub(super) fn spare(&self) -> Option<OwnedFd> {
        match self {
            Self::Tcp(listener) => rustix::io::fcntl_dupfd_cloexec(listener, 0).ok(),
            Self::Unix(socket) => rustix::io::fcntl_dupfd_cloexec(socket.listener(), 0).ok(),
        }
    }
}

/// A listening socket in a runtime.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // An answer is one write, and nobody should wait for more.
                let _ = stream.set_nodelay(true);
                let peer = stream
                    .local_addr()
                    .map_or_else(|_| Peer::from(remote), |local| Peer::tcp(remote, local));
                Ok((Stream::Tcp(stream), peer))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::unix()))
            }
        }
    }
}

/// Lets connections in for ever.
///
/// A program that has used up its descriptors must still say that it is alive: one is kept back, by which one connection at a time is let in.
pub(super) async fn accept(
    bound: &Bound,
    mut spare: Option<OwnedFd>,
    listener: Listener,
    seats: &Arc<Seats>,
    health: &Health,
) {
    loop {
        if !seats.have_room() {
            seats.make_room();
            // Whoever lost the seat leaves it at the next turn.
            tokio::task::yield_now().await;
            if !seats.have_room() {
                tokio::time::sleep(PAUSE).await;
            }
            continue;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                let taken = seats.take();
                tokio::spawn(connection::serve(health.clone(), stream, peer, taken));
                if spare.is_none() {
                    spare = bound.spare();
                }
            }
            Err(error) if is_shortage(&error) => {
                if spare.take().is_none() {
                    seats.make_room();
                    tokio::time::sleep(SHORTAGE).await;
                    spare = bound.spare();
                }
            }
            // Of a client that is gone already.
            Err(_) => {}
        }
    }
}

/// Whether the system has no descriptor or no memory for a connection now.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}
