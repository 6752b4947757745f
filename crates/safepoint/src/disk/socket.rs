//! A socket with a name in a directory, for its owner alone.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use super::replace::parent_of;
use crate::error::{Error, ErrorKind, Result};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening socket (0600). Its name goes when it is dropped, unless another one has that name by then.
#[derive(Debug)]
pub struct NamedSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the name.
    identity: (u64, u64),
}

impl NamedSocket {
    /// Listens at `path`. A name that a dead process left there is taken over.
    ///
    /// The socket is made private before anybody can connect: under a private name that it keeps until it listens.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] when somebody listens there; [`ErrorKind::Invalid`] when something else than a socket is there, or the path is longer
    /// than the 107 bytes that a socket's may have; [`ErrorKind::Io`] when it cannot be made.
    pub fn listen(path: &Path) -> Result<Self> {
        check_free(path)?;
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let private = parent_of(path)?.join(name);
        // One that an earlier process of our number left.
        let _ = fs::remove_file(&private);
        let made = Self::make(path, &private);
        if made.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&private);
        }
        made
    }

    fn make(path: &Path, private: &Path) -> Result<Self> {
        let refuse = |error: rustix::io::Errno| Error::io("listen at", path, error.into());
        let address = SocketAddrUnix::new(private).map_err(|_| too_long(path))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket: OwnedFd =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(refuse)?;
        bind(&socket, &address).map_err(refuse)?;
        let metadata = fs::set_permissions(private, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(private))
            .map_err(|error| Error::io("make private", path, error))?;
        listen(&socket, BACKLOG).map_err(refuse)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a socket means nothing after a power cut, so its name need not survive one"
        )]
        fs::rename(private, path).map_err(|error| Error::io("listen at", path, error))?;
        Ok(Self {
            listener: socket.into(),
            path: path.to_path_buf(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// The socket, to be accepted from. It does not block.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for NamedSocket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_ours {
            // One that stays is taken over by the next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Refuses a name that has a living owner, or that is no socket's.
fn check_free(path: &Path) -> Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("listen at", path, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(
            Error::invalid(format!("`{}` is there and is no socket", path.display()))
                .with_hint("choose another path, or remove what is there"),
        );
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // It went a moment ago.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Busy,
            format!("another process listens at `{}`", path.display()),
        )
        .with_hint("choose another path, or stop that process")),
    }
}

fn too_long(path: &Path) -> Error {
    Error::invalid(format!(
        "`{}` is too long for a socket: 107 bytes with a private name beside it",
        path.display()
    ))
    .with_hint("choose a shorter path, for example below /tmp or /run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_a_live_one_is_refused_and_a_dead_ones_name_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("job.sock");
        let first = NamedSocket::listen(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        let refused = NamedSocket::listen(&path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);

        // As a kill leaves it: the name without a listener.
        drop(UnixListener::bind(directory.path().join("dead")).unwrap());
        let second = NamedSocket::listen(&directory.path().join("dead")).unwrap();
        assert!(UnixStream::connect(directory.path().join("dead")).is_ok());

        drop((first, second));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        crate::disk::replace(&path, b"mine").unwrap();
        assert_eq!(
            NamedSocket::listen(&path).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let long = directory.path().join("x".repeat(120));
        assert_eq!(
            NamedSocket::listen(&long).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}
