//! Notices that another process wrote to a file.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify;

/// A descriptor that is readable once somebody has written to a file of this machine, this process included.
///
/// What is written on another machine, or through a memory map, is not noticed.
#[derive(Debug)]
pub struct FileWatch(OwnedFd);

impl FileWatch {
    /// Watches the file at `path`; none where the system has no more watches to give, or no such file.
    pub fn of(path: &Path) -> Option<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).ok()?;
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).ok()?;
        Some(Self(watch))
    }

    /// Forgets what was written so far.
    pub fn forget(&self) {
        let mut events = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut events);
        // The kernel folds equal events, so there are few.
        while reader.next().is_ok() {}
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn a_write_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::File::create(&path).unwrap();
        let watch = FileWatch::of(&path).unwrap();
        let is_readable = || {
            let mut asked = [PollFd::new(&watch, PollFlags::IN)];
            poll(&mut asked, Some(&Timespec::default())).unwrap() == 1
        };
        assert!(!is_readable());
        for _ in 0..3 {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .unwrap();
            std::io::Write::write_all(&mut file, b"x").unwrap();
        }
        assert!(is_readable());
        watch.forget();
        assert!(!is_readable());
        assert!(FileWatch::of(&folder.path().join("none")).is_none());
    }
}
