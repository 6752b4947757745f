//! What the disk can do without us: the same bytes, durable, by the barest means.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Write, fdatasync, rename, sync of the directory.
pub(crate) fn save(directory: &Path, bytes: &[u8]) {
    let temporary = directory.join(".new");
    let mut file = File::create(&temporary).unwrap();
    file.write_all(bytes).unwrap();
    publish(&file, directory, &temporary);
}

/// The same, asking the kernel to write back every 4 MiB as soon as they are there: the best writer known for large files.
pub(crate) fn save_with_early_write_back(directory: &Path, bytes: &[u8]) {
    let temporary = directory.join(".new");
    let mut file = File::create(&temporary).unwrap();
    let mut at = 0;
    for part in bytes.chunks(4 << 20) {
        file.write_all(part).unwrap();
        let length = i64::try_from(part.len()).unwrap();
        #[expect(unsafe_code, reason = "neither std nor rustix has sync_file_range(2)")]
        // SAFETY: the call takes no pointers, and the file is open.
        unsafe {
            libc::sync_file_range(file.as_raw_fd(), at, length, libc::SYNC_FILE_RANGE_WRITE);
        }
        at += length;
    }
    publish(&file, directory, &temporary);
}

fn publish(file: &File, directory: &Path, temporary: &Path) {
    file.sync_data().unwrap();
    std::fs::rename(temporary, directory.join("saved")).unwrap();
    File::open(directory).unwrap().sync_all().unwrap();
}

/// Reads a whole file front to back with one thread, into memory that is there already.
pub(crate) fn read(path: &Path, into: &mut [u8]) {
    File::open(path).unwrap().read_exact_at(into, 0).unwrap();
}

/// The same by two threads, 2 MiB at a time.
pub(crate) fn read_by_two(path: &Path, into: &mut [u8]) {
    let file = File::open(path).unwrap();
    let parts = std::sync::Mutex::new(into.chunks_mut(2 << 20).enumerate());
    let work = || {
        loop {
            let taken = parts.lock().unwrap().next();
            let Some((number, part)) = taken else { break };
            file.read_exact_at(part, number as u64 * (2 << 20)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

/// Takes a file out of the page cache.
pub(crate) fn forget(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// A file that is appended to, each time with an fdatasync.
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn create(path: &Path) -> Self {
        Self(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap(),
        )
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.sync_data().unwrap();
    }
}
