//! A new file that has no name until it is whole.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::replace::{parent_of, rename, sync_dir};
use crate::error::{Error, Result};

/// A private file (0600) that is written by position, from several threads if need be, and gets its name by
/// [`publish`](Self::publish) when all of it is there.
///
/// Where the file system can (`O_TMPFILE`: ext4, xfs, btrfs, tmpfs), the kernel drops an unpublished file with the
/// process that made it, so that a kill leaves nothing. Elsewhere it has a private name, `.NAME.NUMBER.new`, until then.
#[derive(Debug)]
pub struct FreshFile {
    file: File,
    path: PathBuf,
    /// The private name, where there has to be one.
    temporary: Option<PathBuf>,
}

impl FreshFile {
    /// Begins the file that is to be `path`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        Self::create_with(path, 0o600)
    }

    /// Begins a file that may be read by whomever the user lets read new files (the umask decides): what a person asked for, and no
    /// state.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_open(path: &Path) -> Result<Self> {
        Self::create_with(path, 0o666)
    }

    fn create_with(path: &Path, mode: u32) -> Result<Self> {
        let parent = parent_of(path)?;
        let nameless = OpenOptions::new()
            .write(true)
            .mode(mode)
            .custom_flags(libc::O_TMPFILE)
            .open(parent);
        match nameless {
            Ok(file) => Ok(Self {
                file,
                path: path.to_path_buf(),
                temporary: None,
            }),
            // What a file system says that does not know the flag; old kernels take it for a directory opened to be written.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOENT)
                ) =>
            {
                Self::create_named(path, mode)
            }
            Err(error) => Err(Error::io("make", path, error)),
        }
    }

    fn create_named(path: &Path, mode: u32) -> Result<Self> {
        let temporary = private_name(path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)
            .map_err(|error| Error::io("make", path, error))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            temporary: Some(temporary),
        })
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be written, for want of room among others.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| Error::io("write", &self.path, error))
    }

    /// Asks the kernel to begin writing this range to the disk, so that the sync at the end has less to wait for. Only a
    /// hint: it promises nothing, and what cannot take it is as well off without.
    pub fn begin_write_back(&self, offset: u64, length: usize) {
        let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
            return;
        };
        #[expect(unsafe_code, reason = "neither std nor rustix has sync_file_range(2)")]
        // SAFETY: the call takes no pointers, and the descriptor is open for as long as `self.file` lives.
        unsafe {
            libc::sync_file_range(
                self.file.as_raw_fd(),
                offset,
                length,
                libc::SYNC_FILE_RANGE_WRITE,
            );
        }
    }

    /// The file as a stream that is written from its beginning on.
    pub fn writer(&self) -> FreshWriter<'_> {
        FreshWriter { file: self, at: 0 }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file another name of the same directory than it was begun for, as [`publish`](Self::publish) does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn publish_as(mut self, path: &Path) -> Result<()> {
        self.path = path.to_path_buf();
        self.publish()
    }

    /// Gives the file its name, which must not be taken.
    ///
    /// # Durability
    ///
    /// When this returns, the file and its name survive a power cut. A crash before leaves no file of that name, or all of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when a sync fails or the name is taken. What was written must then be taken for lost:
    /// a kernel reports a failed write-back once and forgets it.
    pub fn publish(self) -> Result<()> {
        self.sync()?;
        self.link(&self.path)
            .map_err(|error| Error::io("name", &self.path, error))?;
        self.settle()
    }

    /// Gives the file its name, and takes it from the file that has it, if there is one.
    ///
    /// # Durability
    ///
    /// As [`publish`](Self::publish); a crash before leaves the old file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when a sync fails, or there is a directory of that name.
    pub fn publish_over(mut self) -> Result<()> {
        self.sync()?;
        // A name is given to a nameless file only where it is free, so it gets a private one first.
        if self.temporary.is_none() {
            let temporary = private_name(&self.path)?;
            self.link(&temporary)
                .map_err(|error| Error::io("name", &self.path, error))?;
            self.temporary = Some(temporary);
        }
        if let Some(temporary) = &self.temporary {
            rename(temporary, &self.path)?;
        }
        self.temporary = None;
        Ok(())
    }

    /// Gives the file the first of these names in its directory that is free, and returns where it is now.
    ///
    /// # Durability
    ///
    /// As [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish), when all of them are taken among others.
    pub fn publish_first_free(
        mut self,
        names: impl IntoIterator<Item = String>,
    ) -> Result<PathBuf> {
        self.sync()?;
        for name in names {
            self.path.set_file_name(name);
            match self.link(&self.path) {
                Ok(()) => {
                    let path = self.path.clone();
                    self.settle()?;
                    return Ok(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("name", &self.path, error)),
            }
        }
        let taken = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(Error::io("name", &self.path, taken))
    }

    fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io("sync", &self.path, error))
    }

    fn link(&self, to: &Path) -> io::Result<()> {
        match &self.temporary {
            None => link_nameless(&self.file, to),
            Some(temporary) => std::fs::hard_link(temporary, to),
        }
    }

    /// Makes the name that it has now durable.
    fn settle(mut self) -> Result<()> {
        if let Some(temporary) = self.temporary.take() {
            // The file has its name; a second one that stays only takes the place of the next private file.
            let _ = std::fs::remove_file(temporary);
        }
        sync_dir(parent_of(&self.path)?)
    }
}

/// Writes a [`FreshFile`] from its beginning on.
#[derive(Debug)]
pub struct FreshWriter<'a> {
    file: &'a FreshFile,
    at: u64,
}

impl Write for FreshWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for FreshFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // It was given up; that it could not be removed changes nothing for anybody.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// The private name of a file that is to be `path`.
fn private_name(path: &Path) -> Result<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    // Several may be in the making, by threads, by processes, and by containers in which all processes have the same number.
    name.push(format!(".{:016x}.new", random()));
    Ok(parent_of(path)?.join(name))
}

/// A number that nobody else has: std seeds its hashers from the system's source of randomness, and counts on from there.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Links by way of `/proc`, which needs no privilege, unlike `AT_EMPTY_PATH`. Source: open(2), "`O_TMPFILE`".
fn link_nameless(file: &File, to: &Path) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    #[expect(
        unsafe_code,
        reason = "std links without following, and what rustix does tests cannot see"
    )]
    // SAFETY: both are strings with a final zero that outlive the call.
    let linked = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    if linked == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn named(path: &Path) -> Result<FreshFile> {
        FreshFile::create_named(path, 0o600)
    }

    #[test]
    fn a_file_takes_a_name_over_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        for (begin, text) in [
            (
                FreshFile::create_open as fn(&Path) -> Result<FreshFile>,
                "one",
            ),
            (named, "two"),
            (FreshFile::create, "three"),
        ] {
            let file = begin(&path).unwrap();
            file.write_at(text.as_bytes(), 0).unwrap();
            file.publish_over().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(folder.path()), ["report"]);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let refused = FreshFile::create(&path).unwrap().publish_over();
        assert!(refused.is_err());
        assert_eq!(names(folder.path()), ["report"], "what was refused is gone");
    }

    #[test]
    fn two_files_that_need_private_names_do_not_share_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (one, two) = (
            FreshFile::create_named(&path, 0o600).unwrap(),
            FreshFile::create_named(&path, 0o600).unwrap(),
        );
        one.write_at(b"one", 0).unwrap();
        two.write_at(b"two", 0).unwrap();
        one.publish().unwrap();
        two.publish_as(&folder.path().join("other")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read(folder.path().join("other")).unwrap(), b"two");
    }

    #[test]
    fn a_file_has_no_name_before_it_is_published_and_never_replaces_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for begin in [FreshFile::create, named] {
            let given_up = begin(&path).unwrap();
            given_up.write_at(b"half", 0).unwrap();
            assert!(!path.exists());
            drop(given_up);
            assert!(names(folder.path()).is_empty());

            let file = begin(&path).unwrap();
            file.write_at(b"whole", 3).unwrap();
            file.begin_write_back(0, 8);
            file.write_at(b"the", 0).unwrap();
            file.publish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"thewhole");

            let second = begin(&path).unwrap();
            second.write_at(b"second", 0).unwrap();
            assert!(second.publish().is_err());
            assert_eq!(std::fs::read(&path).unwrap(), b"thewhole");
            assert_eq!(names(folder.path()), ["state"]);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_takes_the_first_name_that_is_free_and_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for (begin, number) in [FreshFile::create, named].into_iter().zip([1_u8, 2]) {
            let file = begin(&path).unwrap();
            let mut writer = file.writer();
            writer.write_all(b"in ").unwrap();
            writer.write_all(&[b'0' + number]).unwrap();
            let got = file.publish_first_free(["a", "b"].map(str::to_owned));
            assert_eq!(
                got.unwrap(),
                folder.path().join(["a", "b"][usize::from(number) - 1])
            );
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"in 1");
        assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"in 2");
        let third = FreshFile::create(&path).unwrap();
        let refused = third.publish_first_free(["a", "b"].map(str::to_owned));
        assert!(refused.unwrap_err().chain().contains("exists"));
        assert_eq!(names(folder.path()).len(), 2);
    }
}
